//! What is asked of a switch, beside where to.

use serde::{Deserialize, Serialize};

use super::kept::upgrade::OnBarrier;

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
    /// Copy what services keep before they are changed in a way that may change that too, or leave.
    #[serde(default = "yes")]
    pub copies: bool,
    /// What becomes of what services keep on the way back over something that cannot be undone.
    #[serde(default)]
    pub on_barrier: OnBarrier,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            settle_s: SETTLE_S,
            deadline_s: DEADLINE_S,
            confirm_within_s: None,
            go_back: true,
            adopt: false,
            copies: true,
            on_barrier: OnBarrier::default(),
        }
    }
}

/// Journals of versions that knew nothing of it.
fn yes() -> bool {
    true
}
