//! Validations: commands that judge files of their own service.

use super::super::finding::Finding;
use super::commands;
use super::survey::Survey;
use crate::bundle::manifest::Validation;
use crate::bundle::names::BundlePath;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> Vec<Validation> {
    let mut validations = Vec::new();
    for (stated, validation) in &survey.validations {
        let own = |place: &str| {
            let of_service = |service: &str| service == stated.service.name;
            survey.files.iter().any(|(other, file)| of_service(&other.service.name) && file.place() == place)
        };
        for place in validation.files.iter().filter(|place| !own(place)) {
            let (_, name) = place.rsplit_once('/').unwrap_or(("", place));
            let message = format!("`{place}` is judged, and `{}` does not bring it", stated.service.name);
            let finding = stated.error(&["files", name], message, "");
            findings.push(finding.help("return the file too, from the same module"));
        }
        let command = commands::checked(survey, *stated, &validation.command, findings);
        if let (Some(command), Some(service)) = (command, stated.label()) {
            let files =
                validation.files.iter().filter_map(|place| place.parse::<BundlePath>().ok()).collect();
            validations.push(Validation { service, command, files });
        }
    }
    validations
}
