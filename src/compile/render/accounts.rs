//! sysusers.d and tmpfiles.d lines.
