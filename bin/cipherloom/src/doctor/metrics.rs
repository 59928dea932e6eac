//! The metrics endpoint of a process.

use std::net::{IpAddr, SocketAddr};

use cipherloom_service::report::Report;

use super::{DoctorOptions, PATIENCE, Roles};

const AREA: &str = "metrics";

/// A counter that every process has.
const EXPECTED: &str = "coprocessor_";

/// Asks for metrics and health.
pub(super) async fn check(options: &DoctorOptions, roles: Roles, report: &mut Report) {
    let base = options
        .metrics_url
        .clone()
        .unwrap_or_else(|| format!("http://{}", reachable(options.coprocessor.metrics_addr)));
    let base = base.trim_end_matches('/');
    let client = match reqwest::Client::builder().timeout(PATIENCE).build() {
        Ok(client) => client,
        Err(error) => {
            report.fail(AREA, format!("cannot ask: {error}"), "look at this machine's network");
            return;
        }
    };
    let metrics = match client.get(format!("{base}/metrics")).send().await {
        Ok(answer) => answer.text().await.unwrap_or_default(),
        Err(_) if roles.stated || options.metrics_url.is_some() => {
            report.fail(
                AREA,
                format!("nothing answers at {base}"),
                "start the process, or say where its metrics are with --metrics-addr or --metrics-url",
            );
            return;
        }
        Err(_) => {
            report.ok(AREA, format!("no process has them at {base}; none is said to run here"));
            return;
        }
    };
    if metrics.contains(EXPECTED) {
        report.ok(AREA, format!("at {base}/metrics"));
    } else {
        report.fail(
            AREA,
            format!("{base}/metrics has none of a coprocessor: another program listens there"),
            "give the coprocessor another --metrics-addr, or stop the other program",
        );
        return;
    }
    match client.get(format!("{base}/health/ready")).send().await {
        Ok(answer) if answer.status().is_success() => report.ok(AREA, "the process says that it is alive and ready"),
        Ok(answer) => {
            let status = answer.status();
            let reason = answer.text().await.unwrap_or_default();
            report.fail(
                AREA,
                format!("the process is not ready ({status}): {}", first_line(&reason)),
                "look at its log; it becomes ready by itself once the reason is gone",
            );
        }
        Err(error) => report.fail(
            AREA,
            format!("{base}/health/ready does not answer: {error}"),
            "look at the process's log",
        ),
    }
}

/// Where a process that listens on all addresses can be reached from its own machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_on_all_addresses_is_asked_on_this_machine() {
        for (given, asked) in [
            ("0.0.0.0:9100", "127.0.0.1:9100"),
            ("[::]:9100", "[::1]:9100"),
            ("10.0.0.7:9100", "10.0.0.7:9100"),
        ] {
            assert_eq!(reachable(given.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
