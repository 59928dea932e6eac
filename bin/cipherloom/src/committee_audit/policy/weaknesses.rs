//! What is weak about a policy although it can be used.

use cipherloom_attest::{Policy, TcbStatus};
use cipherloom_service::report::Report;

const AREA: &str = "weaknesses";

/// Tells each.
pub(super) fn tell(policy: &Policy, report: &mut Report) {
    if policy.images.is_empty() {
        if policy.allow_insecure_simulated {
            report.warn(
                AREA,
                "INSECURE: it accepts nothing but simulated evidence, which proves nothing, on chains for development",
                "use it for development only",
            );
        } else {
            report.fail(
                AREA,
                "it lists no images, so it accepts nothing",
                "add the images of releases that you trust",
            );
        }
        return;
    }
    if policy.allow_insecure_simulated {
        report.warn(
            AREA,
            "INSECURE: besides its images it accepts simulated evidence on chains for development",
            "set allow-insecure-simulated to false",
        );
    }
    for image in &policy.images {
        if image.app_ids.len() < 2 {
            report.warn(
                AREA,
                format!(
                    "image {:?} has one application id: whoever may upgrade that application can upgrade every node",
                    image.name
                ),
                "give each operator an application id of their own, and list them all",
            );
        }
        if image.compose_hashes.len() > image.app_ids.len().max(2) {
            report.warn(
                AREA,
                format!("image {:?} accepts {} compositions", image.name, image.compose_hashes.len()),
                "remove those of releases that no node runs any more",
            );
        }
    }
    let tcb = &policy.tcb;
    let tolerated: Vec<String> = tcb
        .statuses
        .iter()
        .filter(|status| **status != TcbStatus::UpToDate)
        .map(|status| format!("{status:?}"))
        .collect();
    if tcb.statuses.is_empty() {
        report.fail(
            AREA,
            "it accepts no state of a platform, so it accepts nothing",
            "list up-to-date in tcb.statuses",
        );
    }
    if !tolerated.is_empty() {
        report.warn(
            AREA,
            format!("it accepts platforms that the manufacturer calls {}", tolerated.join(", ")),
            "update the platforms, then accept up-to-date alone",
        );
    }
    if tcb.statuses.contains(&TcbStatus::OutOfDate) && tcb.grace_days > 30 {
        report.warn(
            AREA,
            format!("it accepts platforms that are out of date for {} days", tcb.grace_days),
            "30 days are enough for an update",
        );
    }
    if tcb.min_evaluation == 0 {
        report.warn(
            AREA,
            "it sets no lower bound for the manufacturer's evaluations: whoever chooses the statements can take unexpired ones from before a recovery",
            "set tcb.min-evaluation to the tcbEvaluationDataNumber of the newest statements",
        );
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, FixedBytes};
    use cipherloom_attest::{Image, TcbPolicy};
    use cipherloom_service::report::Level;

    use super::*;

    fn good() -> Policy {
        Policy {
            images: vec![Image {
                name: "release".into(),
                mr_td: FixedBytes::repeat_byte(1),
                rtmr0: vec![FixedBytes::repeat_byte(2)],
                rtmr1: FixedBytes::repeat_byte(3),
                rtmr2: FixedBytes::repeat_byte(4),
                compose_hashes: vec![B256::repeat_byte(5)],
                app_ids: vec![FixedBytes::repeat_byte(6), FixedBytes::repeat_byte(7)],
                key_providers: vec![vec![8].into()],
            }],
            tcb: TcbPolicy {
                min_evaluation: 17,
                ..TcbPolicy::default()
            },
            allow_insecure_simulated: false,
            ..Policy::insecure_simulated_only()
        }
    }

    fn worst(policy: &Policy) -> (Level, usize) {
        let mut report = Report::default();
        tell(policy, &mut report);
        (report.worst(), report.warnings().len() + report.failures().len())
    }

    #[test]
    fn a_strict_policy_has_no_weakness() {
        assert_eq!(worst(&good()), (Level::Ok, 0));
    }

    #[test]
    fn each_weakness_is_told() {
        let tcb = |change: &dyn Fn(&mut TcbPolicy)| {
            let mut policy = good();
            change(&mut policy.tcb);
            policy
        };
        let one_app = {
            let mut policy = good();
            policy.images.iter_mut().for_each(|image| image.app_ids.truncate(1));
            policy
        };
        let many_compositions = {
            let mut policy = good();
            policy
                .images
                .iter_mut()
                .for_each(|image| image.compose_hashes = vec![B256::ZERO; 3]);
            policy
        };
        let cases = [
            (
                Policy {
                    allow_insecure_simulated: true,
                    ..good()
                },
                Level::Warn,
            ),
            (Policy { images: vec![], ..good() }, Level::Fail),
            (Policy::insecure_simulated_only(), Level::Warn),
            (one_app, Level::Warn),
            (many_compositions, Level::Warn),
            (tcb(&|tcb| tcb.min_evaluation = 0), Level::Warn),
            (tcb(&|tcb| tcb.statuses = vec![]), Level::Fail),
            (tcb(&|tcb| tcb.statuses.push(TcbStatus::SwHardeningNeeded)), Level::Warn),
        ];
        for (policy, level) in cases {
            assert_eq!(worst(&policy), (level, 1), "{policy:?}");
        }
        let old = tcb(&|tcb| {
            tcb.statuses.push(TcbStatus::OutOfDate);
            tcb.grace_days = 90;
        });
        assert_eq!(worst(&old), (Level::Warn, 2));
    }
}
