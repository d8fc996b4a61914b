//! What is asked of a switch, beside where to.

use serde::{Deserialize, Serialize};

/// How long restarted services are watched unless somebody says otherwise, in seconds.
pub const SETTLE_S: u32 = 5;
/// How long a switch may take in all before PID 1 goes back, in seconds: programs that make a large database on their first start
/// take minutes.
pub const DEADLINE_S: u32 = 900;

/// What is asked of a switch, beside where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// How long services that were started are watched before they are called well, in seconds.
    pub settle_s: u32,
    /// How long the switch may take, in seconds; then PID 1 goes back.
    pub deadline_s: u32,
    /// Within how many seconds somebody must confirm the new generation, if that is asked for.
    pub confirm_within_s: Option<u32>,
    /// Go back if the new generation is not well.
    pub go_back: bool,
    /// Take over unit files of others that say the same.
    pub adopt: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            settle_s: SETTLE_S,
            deadline_s: DEADLINE_S,
            confirm_within_s: None,
            go_back: true,
            adopt: false,
        }
    }
}
