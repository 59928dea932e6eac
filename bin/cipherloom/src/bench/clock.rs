//! What a piece of work costs: CPU time of the whole process, time on the wall, memory.

use std::{
    ops::AddAssign,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// What something has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Seconds of CPU time that all threads of this process took together.
    pub(crate) cpu: f64,
    /// Seconds that passed.
    pub(crate) wall: f64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.wall += other.wall;
    }
}

impl Cost {
    /// Returns the cost of one of so many equal parts.
    pub(crate) fn per(self, count: f64) -> Self {
        Self {
            cpu: self.cpu / count,
            wall: self.wall / count,
        }
    }
}

/// Runs it and returns what it cost.
///
/// # Errors
/// Those of the work.
pub(crate) fn measure<T>(work: impl FnOnce() -> Result<T>) -> Result<(Cost, T)> {
    let (wall, cpu) = (Instant::now(), process_cpu());
    let result = work()?;
    let cost = Cost {
        cpu: process_cpu().saturating_sub(cpu).as_secs_f64(),
        wall: wall.elapsed().as_secs_f64(),
    };
    Ok((cost, result))
}

/// Returns the CPU time of this process, all threads together.
pub(crate) fn process_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Forgets the largest memory so far, so that [`peak_memory`] tells the largest from now on. Where the system cannot, nothing happens.
pub(crate) fn forget_peak_memory() {
    // 5 resets the "high water mark" of the resident set (Linux, proc(5)).
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Returns the largest resident memory in bytes, if the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread_cpu() -> Duration {
        duration(clock_gettime(ClockId::ThreadCPUTime))
    }

    #[test]
    fn work_on_other_threads_counts_and_waiting_does_not() {
        let spin = || {
            let start = thread_cpu();
            while thread_cpu().saturating_sub(start) < Duration::from_millis(20) {}
        };
        let (cost, ()) = measure(|| {
            std::thread::scope(|scope| {
                scope.spawn(spin);
                scope.spawn(spin);
            });
            Ok(())
        })
        .unwrap();
        assert!(cost.cpu >= 0.04, "{cost:?}");
        let before = thread_cpu();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_cpu().saturating_sub(before) < Duration::from_millis(30));
    }

    #[test]
    fn the_largest_memory_is_at_least_what_is_in_use() {
        // Hidden from the optimizer, which would leave out memory that nobody reads.
        let bytes = std::hint::black_box(vec![1u8; 32 << 20]);
        if let Some(peak) = peak_memory() {
            assert!(peak >= bytes.len() as u64);
        }
        std::hint::black_box(&bytes);
    }
}
