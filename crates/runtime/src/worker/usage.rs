//! CPU time and memory of a process.

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_us: u64,
    pub(crate) resident_bytes: u64,
}

/// What a process, by its number or as `self`, has used so far. Known on Linux only.
pub(crate) fn usage(process: &str) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name, which may hold anything but ends with the last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
    let ticks = field(14)? + field(15)?;
    Some(Usage {
        cpu_us: ticks * 1_000_000 / rustix::param::clock_ticks_per_second(),
        resident_bytes: field(24)? * rustix::param::page_size() as u64,
    })
}
