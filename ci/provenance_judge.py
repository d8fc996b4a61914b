"""The judge behind ci/provenance-judge."""

import json
import sys

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from packageurl import PackageURL


def purl(text):
    """A package URL, which has one spelling."""
    read = PackageURL.from_string(text)
    if read.to_string() != text:
        sys.exit(f"{text} is spelt {read.to_string()}")
    return read


def bill(text):
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        sys.exit(f"no CycloneDX 1.6: {wrong}")
    bom = Bom.from_json(json.loads(text))
    # References that lead nowhere.
    if not bom.validate():
        sys.exit("the library does not take the document")
    names = {bom.metadata.component.bom_ref.value: bom.metadata.component.name}
    for component in bom.components:
        if component.purl is not None:
            purl(component.bom_ref.value)
        names[component.bom_ref.value] = component.name
    holds = {}
    for dependency in bom.dependencies:
        inner = sorted(names[one.ref.value] for one in dependency.dependencies)
        holds.setdefault(names[dependency.ref.value], []).extend(inner)
    return {"holds": holds}


def statement(document):
    # Fields that it does not know are refused.
    message = ParseDict(document, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    predicate = ParseDict(document["predicate"], provenance_pb2.Provenance())
    dependencies = predicate.build_definition.resolved_dependencies
    for dependency in dependencies:
        if dependency.uri.startswith("pkg:"):
            purl(dependency.uri)
    return {"dependencies": len(dependencies), "builder": predicate.run_details.builder.id}


for line in sys.stdin:
    document = json.loads(line)
    print(json.dumps(bill(line) if "bomFormat" in document else statement(document)))
