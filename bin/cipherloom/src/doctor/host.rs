//! This machine: processors, memory, space.

use cipherloom_service::report::{Level, Report};
use std::{fs, num::NonZero, path::Path, thread};

use super::{Roles, tenants::Found};
use crate::coprocessor::CoprocessorOptions;

const AREA: &str = "this machine";

/// Memory that a key set of production parameters takes in a process, and while it is read (docs/keys.md).
const KEY_SET_BYTES: u64 = 700 << 20;

/// Space below which a place is nearly full.
const LITTLE_SPACE_BYTES: u64 = 5 << 30;

/// Looks at processors and space.
pub(super) fn check(options: &CoprocessorOptions, roles: Roles, report: &mut Report) {
    if roles.worker {
        check_processors(options, report);
    }
    let store = options.ciphertext_store.as_ref().map(ToString::to_string);
    if let Some(directory) = store.as_deref().and_then(|url| url.strip_prefix("file://")) {
        check_space("the directory of ciphertexts", Path::new(directory), report);
    }
    let embedded = options
        .database_url
        .as_ref()
        .and_then(|url| url.expose().strip_prefix("sqlite:"))
        .map(|path| Path::new(path.strip_prefix("//").unwrap_or(path)));
    if let Some(path) = embedded {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        check_space("the embedded database", parent.unwrap_or_else(|| Path::new(".")), report);
    }
}

fn check_processors(options: &CoprocessorOptions, report: &mut Report) {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = usize::from(options.coprocessor_fhe_threads);
    report.expect(
        AREA,
        threads <= processors || options.coprocessor_fhe_threads == 8,
        format!("{processors} processors, {} threads for FHE", threads.min(processors)),
        (
            Level::Warn,
            format!("{threads} threads for FHE on {processors} processors: they will wait for each other"),
            format!("start workers with --coprocessor-fhe-threads {processors} or fewer"),
        ),
    );
    let (features, fast) = processor_features();
    report.expect(
        AREA,
        fast,
        format!("the processor has {features} for fast Fourier transforms"),
        (
            Level::Warn,
            format!("the processor has {features}: bootstraps take several times as long as with AVX2 and FMA"),
            "run workers on a processor of the last ten years; in a virtual machine, pass the host's processor through".to_owned(),
        ),
    );
}

/// Names what the processor has that transforms use, and says whether it is enough to be fast.
#[cfg(target_arch = "x86_64")]
fn processor_features() -> (String, bool) {
    let has = [
        ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
        ("FMA", std::arch::is_x86_feature_detected!("fma")),
        ("AVX-512", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    let names: Vec<&str> = has.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let fast = has.iter().take(2).all(|(_, has)| *has);
    (
        if names.is_empty() {
            "neither AVX2 nor FMA".to_owned()
        } else {
            names.join(", ")
        },
        fast,
    )
}

#[cfg(target_arch = "aarch64")]
fn processor_features() -> (String, bool) {
    let fast = std::arch::is_aarch64_feature_detected!("neon");
    ((if fast { "NEON" } else { "no NEON" }).to_owned(), fast)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn processor_features() -> (String, bool) {
    ("no vector instructions that this build uses".to_owned(), false)
}

/// Compares the memory of the machine with what the key sets of the tenants and the cache take.
pub(super) fn check_memory_for_keys(options: &CoprocessorOptions, found: &[Found], report: &mut Report) {
    let Some(total) = memory_bytes() else {
        return;
    };
    let mut sets: Vec<_> = found.iter().filter_map(Found::real_key_set).collect();
    sets.sort_unstable();
    sets.dedup();
    let held = sets.len().min(usize::from(options.tenant_key_cache_size));
    let keys = KEY_SET_BYTES.saturating_mul(u64::try_from(held).unwrap_or(u64::MAX));
    let cache = u64::from(options.ciphertext_cache_mib) << 20;
    let needed = keys.saturating_add(cache);
    report.expect(
        AREA,
        needed <= total / 10 * 8,
        format!(
            "{} of memory for {held} key sets of production parameters and {} of ciphertexts",
            gigabytes(total),
            gigabytes(cache)
        ),
        (
            Level::Warn,
            format!(
                "{held} key sets and the cache of ciphertexts take about {}, and the machine has {}",
                gigabytes(needed),
                gigabytes(total)
            ),
            "lower --tenant-key-cache-size or --ciphertext-cache-mib, serve fewer tenants here, or add memory".to_owned(),
        ),
    );
}

/// The memory of this machine as Linux says it, or the limit of the container.
fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(total, |limit| limit.min(total)))
}

/// Says how much space a place has left. `df` is asked, because the standard library cannot be.
fn check_space(what: &str, directory: &Path, report: &mut Report) {
    let Ok(output) = std::process::Command::new("df").arg("-Pk").arg(directory).output() else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some(free) = free_bytes(&text) else {
        report.warn(
            AREA,
            format!("{what}, {}, cannot be looked at", directory.display()),
            "make the directory, or run this as the user the coprocessor runs as",
        );
        return;
    };
    report.expect(
        AREA,
        free >= LITTLE_SPACE_BYTES,
        format!("{what} has {} of space left", gigabytes(free)),
        (
            Level::Warn,
            format!("{what} has only {} of space left", gigabytes(free)),
            "add space; a 64-bit value takes 0.5 MB until it is packed (docs/coprocessor.md, Capacity)".to_owned(),
        ),
    );
}

/// Reads the free space from the portable form of `df -Pk`: the fourth column of the second line, in kibibytes.
fn free_bytes(text: &str) -> Option<u64> {
    let columns: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    columns.get(3)?.parse::<u64>().ok()?.checked_mul(1024)
}

fn gigabytes(bytes: u64) -> String {
    let tenths = bytes / (1 << 30) * 10 + (bytes % (1 << 30)) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_read_from_the_portable_form() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda1 100 40 60 40% /\n";
        assert_eq!(free_bytes(text), Some(60 * 1024));
        assert_eq!(free_bytes("df: no such file\n"), None);
    }

    #[test]
    fn sizes_are_rounded_down_to_tenths() {
        assert_eq!(gigabytes(0), "0.0 GiB");
        assert_eq!(gigabytes((1 << 30) + (1 << 29)), "1.5 GiB");
    }
}
