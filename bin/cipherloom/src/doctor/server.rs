//! The API server: whether it answers, is healthy, and keeps the right time.

use std::{fs, time::SystemTime};

use cipherloom_service::report::{Level, Report};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use super::{DoctorOptions, PATIENCE, Roles, metrics::reachable};

const AREA: &str = "API server";

/// The service that nodes call.
const SERVICE: &str = "fhevm.coprocessor.FhevmCoprocessor";

/// Clocks of servers that differ by more are worth a word: HTTP dates have whole seconds.
const CLOCK_SECONDS: u64 = 3;

/// Calls the server as a node does.
pub(super) async fn check(options: &DoctorOptions, roles: Roles, report: &mut Report) {
    let url = url(options);
    let channel = match connect(options, &url).await {
        Ok(channel) => channel,
        Err(_) if !roles.stated && options.server_url.is_none() => {
            report.ok(AREA, format!("none at {url}; none is said to run here"));
            return;
        }
        Err(reason) => {
            report.fail(
                AREA,
                format!("cannot be reached at {url}: {reason}"),
                "start it with --run-server; say where it is with --server-addr or --server-url; check the firewall and the certificate",
            );
            return;
        }
    };
    let request = HealthCheckRequest {
        service: SERVICE.to_owned(),
    };
    match HealthClient::new(channel.clone()).check(request).await {
        Ok(answer) => {
            check_clock(answer.metadata().get("date").and_then(|date| date.to_str().ok()), report);
            let serving = answer.into_inner().status == ServingStatus::Serving as i32;
            report.expect(
                AREA,
                serving,
                format!("serves {SERVICE} at {url}"),
                (
                    Level::Fail,
                    format!("{url} says that it is not serving: it is starting or stopping, or has lost the database"),
                    "wait a moment and run this again; look at its log".to_owned(),
                ),
            );
        }
        Err(status) => report.fail(
            AREA,
            format!("{url} does not say whether it is healthy: {}", status.message()),
            "another program may listen there; give the coprocessor another --server-addr",
        ),
    }
    check_reflection(channel, report).await;
}

fn url(options: &DoctorOptions) -> String {
    options.server_url.clone().unwrap_or_else(|| {
        let scheme = if options.coprocessor.tls_certificate.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", reachable(options.coprocessor.server_addr))
    })
}

async fn connect(options: &DoctorOptions, url: &str) -> Result<Channel, String> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| error.to_string())?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE);
    if url.starts_with("https://") {
        let file = options
            .server_ca
            .as_ref()
            .or(options.coprocessor.tls_certificate.as_ref())
            .ok_or("give the certificate of whoever issued the server's with --server-ca")?;
        let pem = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        endpoint = endpoint.tls_config(tls).map_err(|error| error.to_string())?;
    }
    endpoint.connect().await.map_err(|error| {
        // What went wrong stands in the causes: the error itself says "transport error".
        let causes: Vec<String> = std::iter::successors(std::error::Error::source(&error), |cause| cause.source())
            .map(ToString::to_string)
            .collect();
        causes.last().cloned().unwrap_or_else(|| error.to_string())
    })
}

/// Asks which services there are, as grpcurl does.
async fn check_reflection(channel: Channel, report: &mut Report) {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let listed = async {
        let mut client = ServerReflectionClient::new(channel);
        let mut answers = client
            .server_reflection_info(futures_util::stream::once(async { request }))
            .await?
            .into_inner();
        answers.message().await
    };
    let names = match listed.await {
        Ok(Some(answer)) => match answer.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|service| service.name).collect(),
            _ => Vec::new(),
        },
        Ok(None) => Vec::new(),
        Err(status) => {
            report.warn(
                AREA,
                format!("does not describe itself: {}", status.message()),
                "tools such as grpcurl need reflection; nodes do not",
            );
            return;
        }
    };
    report.expect(
        AREA,
        names.iter().any(|name| name == SERVICE),
        "describes its services by reflection",
        (
            Level::Fail,
            format!("has no service {SERVICE}: another program listens there"),
            "give the coprocessor another --server-addr, or stop the other program".to_owned(),
        ),
    );
}

fn check_clock(date: Option<&str>, report: &mut Report) {
    let here = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    let Some(there) = date.and_then(http_date) else {
        return;
    };
    let skew = here.abs_diff(there);
    report.expect(
        AREA,
        skew <= CLOCK_SECONDS,
        "its clock and this machine's agree",
        (
            Level::Warn,
            format!("its clock and this machine's differ by {skew} s"),
            "run a time service (chrony, systemd-timesyncd) on both machines".to_owned(),
        ),
    );
}

/// Reads the date of an HTTP answer, `Sat, 21 Nov 2026 03:00:00 GMT` (RFC 9110, section 5.6.7), as seconds since the Unix epoch.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = fields.as_slice() else {
        return None;
    };
    let (day, year) = (day.parse::<u64>().ok()?, year.parse::<u64>().ok()?);
    let month = u64::try_from(MONTHS.iter().position(|name| name == month)?).ok()?;
    let clock: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = clock.as_slice() else {
        return None;
    };
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || *hours > 23 || *minutes > 59 || *seconds > 60 {
        return None;
    }
    // Days before a date, counted in years that begin in March, so that a leap day is the last of its year.
    let (shifted_year, shifted_month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = shifted_year * 365 + shifted_year / 4 - shifted_year / 100 + shifted_year / 400 + (shifted_month * 153 + 2) / 5 + day - 1;
    // The Unix epoch is day 719,468 of that count.
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2000 12:00:00 GMT"), Some(951_825_600));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Sat, 21 Nov 2026 03:00:00 GMT"), Some(1_795_230_000));
        for wrong in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }
}
