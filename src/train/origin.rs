//! Where a number comes from: versions and hardware.

/// The version of Burn that this crate is built for.
pub(crate) const BURN: &str = "0.22.1";

/// The processor, how many threads it runs at once, and the system.
pub(crate) fn hardware() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    match processor() {
        Some(name) => format!("{name}, {threads} threads, {system}"),
        None => format!("{threads} threads, {system}"),
    }
}

/// The name of the processor on Linux; other systems have no such file.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_burn_is_that_of_the_manifest() {
        let manifest = include_str!("../../Cargo.toml");
        assert!(manifest.contains(&format!("\nburn = {{ version = \"{BURN}\"")));
    }

    #[test]
    fn hardware_says_something() {
        assert!(hardware().contains(std::env::consts::ARCH));
    }
}
