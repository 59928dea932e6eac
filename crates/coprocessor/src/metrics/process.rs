//! What the process takes, what it is, and how it is.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec};

use super::{Registrar, gauge_value};

/// What the process takes. Apart from CPU time it is known on Linux only, and 0 elsewhere.
#[derive(Clone)]
pub struct ProcessMetrics {
    cpu_seconds: Counter,
    /// Held while CPU time is added, so that two scrapes at a time do not add it twice.
    adding: Arc<Mutex<()>>,
    resident_bytes: IntGauge,
    peak_bytes: IntGauge,
    threads: IntGauge,
    open_files: IntGauge,
    file_limit: IntGauge,
    ready: IntGaugeVec,
    draining: IntGauge,
}

impl ProcessMetrics {
    pub(super) fn new(registrar: &mut Registrar) -> Self {
        let build = registrar.gauges(
            "coprocessor_build_info",
            "Always 1; its labels tell the version of the software and of its engine, which results depend on.",
            &["version", "engine_version"],
        );
        let engine = cipherloom_engine::ENGINE_VERSION.to_string();
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), &engine]).set(1);
        let start: Gauge = registrar.float_gauge(
            "process_start_time_seconds",
            "When the process began, in seconds since the Unix epoch.",
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        start.set(now.as_secs_f64());
        let metrics = Self {
            adding: Arc::default(),
            cpu_seconds: registrar.seconds_counter("process_cpu_seconds_total", "CPU time of the process, of users and system."),
            resident_bytes: registrar.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM."),
            peak_bytes: registrar.gauge(
                "process_peak_resident_memory_bytes",
                "The most memory of the process that was in RAM.",
            ),
            threads: registrar.gauge("process_threads", "Threads of the process."),
            open_files: registrar.gauge("process_open_fds", "Files and connections that the process has open."),
            file_limit: registrar.gauge("process_max_fds", "How many files and connections the process may have open."),
            ready: registrar.gauges(
                "coprocessor_ready",
                "Whether each check of /health/ready passed when it was last done: 1 or 0.",
                &["check"],
            ),
            draining: registrar.gauge(
                "coprocessor_draining",
                "Whether the process was told to stop and finishes what is under way: 1 or 0.",
            ),
        };
        metrics.read();
        metrics
    }

    /// Shows whether a check of readiness passed. Checks have few, fixed names.
    pub fn set_ready(&self, check: &'static str, passed: bool) {
        self.ready.with_label_values(&[check]).set(i64::from(passed));
    }

    /// Shows whether the process was told to stop.
    pub fn set_draining(&self, draining: bool) {
        self.draining.set(i64::from(draining));
    }

    /// Asks the operating system what the process takes.
    pub(super) fn read(&self) {
        self.add_cpu_time();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| status_field(&status, name).unwrap_or(0);
        self.resident_bytes.set(field("VmRSS:").saturating_mul(1024));
        self.peak_bytes.set(field("VmHWM:").saturating_mul(1024));
        self.threads.set(field("Threads:"));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.open_files.set(gauge_value(open));
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        self.file_limit.set(file_limit(&limits).unwrap_or(0));
    }

    fn add_cpu_time(&self) {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let more = cpu_time().as_secs_f64() - self.cpu_seconds.get();
        if more > 0.0 {
            self.cpu_seconds.inc_by(more);
        }
    }
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Finds the number after a name at the beginning of a line.
fn status_field(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Finds the soft limit of open files.
fn file_limit(limits: &str) -> Option<i64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn fields_are_found_in_what_linux_says() {
        let status = "Name:\tcoprocessor\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\nThreads:\t12\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(1024));
        assert_eq!(status_field(status, "Threads:"), Some(12));
        assert_eq!(status_field(status, "VmSwap:"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n";
        assert_eq!(file_limit(limits), Some(1024));
        assert_eq!(file_limit("Max open files  unlimited unlimited files"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_memory_threads_and_files_and_its_cpu_time_grows() {
        let metrics = Metrics::new();
        let process = metrics.process();
        let before = process.cpu_seconds.get();
        let mut sum = 0u64;
        while cpu_time().as_secs_f64() <= before + 0.01 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        process.read();
        assert!(process.cpu_seconds.get() > before);
        assert!(process.resident_bytes.get() > 1 << 20);
        assert!(process.peak_bytes.get() >= process.resident_bytes.get());
        assert!(process.threads.get() >= 1 && process.open_files.get() >= 1);
    }
}
