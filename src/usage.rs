//! What this process has used, as the kernel counts it.

use std::fs;

/// Bytes and memory of this process so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Bytes that this process caused to be written to storage (`write_bytes` of proc(5)'s /proc/PID/io, in whole
    /// pages); file systems in memory do not count.
    pub(crate) written: Option<u64>,
    /// Most bytes resident at a time, mapped pages included (`VmHWM` of proc(5)'s /proc/PID/status).
    pub(crate) peak_memory: Option<u64>,
}

impl Usage {
    /// Asks the kernel; a figure that it does not give is `None`, and never made up.
    pub(crate) fn now() -> Self {
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            written: field(&io, "write_bytes:"),
            peak_memory: field(&status, "VmHWM:").map(|kib| kib * 1024),
        }
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
