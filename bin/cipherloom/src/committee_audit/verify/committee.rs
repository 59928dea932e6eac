//! Whether the nodes together are what the chain registers, and whether its thresholds leave corrupt nodes powerless.

use std::collections::BTreeMap;

use cipherloom_attest::TeeKind;
use cipherloom_chain::CommitteeOnChain;
use cipherloom_primitives::Address;
use cipherloom_service::report::Report;

use super::node::Found;

const AREA: &str = "committee";

/// Judges all of them together.
pub(super) fn judge(committee: &CommitteeOnChain, nodes: &[Found], report: &mut Report) {
    judge_thresholds(committee, report);
    let mut places: BTreeMap<Address, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        if let Some(signer) = node.signer {
            places.entry(signer).or_default().push(&node.url);
        }
    }
    for (signer, urls) in places.iter().filter(|(_, urls)| urls.len() > 1) {
        report.warn(
            AREA,
            format!("{} lead to the same node, {signer}", urls.join(" and ")),
            "name each node once; one that was cloned would be a reason to worry",
        );
    }
    let missing: Vec<String> = committee
        .signers
        .iter()
        .filter(|signer| !places.contains_key(*signer))
        .map(|signer| signer.to_checksum(None))
        .collect();
    if missing.is_empty() {
        report.ok(AREA, format!("all {} registered signers were looked at", committee.signers.len()));
    } else {
        report.warn(
            AREA,
            format!(
                "NOT CHECKED: {} of {} registered signers: no evidence that is believed was seen of {}",
                missing.len(),
                committee.signers.len(),
                missing.join(", ")
            ),
            "name the public ports of all nodes",
        );
    }
    let apps: Vec<_> = nodes
        .iter()
        .filter_map(|node| node.claims.as_ref())
        .filter(|claims| claims.kind == TeeKind::DstackTdx)
        .map(|claims| &claims.app.app_id)
        .collect();
    if let Some(first) = apps.first()
        && apps.len() > 1
        && apps.iter().all(|app| app == first)
    {
        report.warn(
            AREA,
            format!(
                "all nodes are the application {first}: whoever may upgrade it can replace the software of all at once, and read all shares"
            ),
            "each operator needs an application id of their own",
        );
    }
}

fn judge_thresholds(committee: &CommitteeOnChain, report: &mut Report) {
    let (nodes, corrupt) = (committee.signers.len() as u64, committee.mpc_threshold);
    let (public, user) = (committee.public_decryption_threshold, committee.user_decryption_threshold);
    let honest = nodes.saturating_sub(corrupt);
    if nodes <= corrupt.saturating_mul(3) {
        report.fail(
            AREA,
            format!("{corrupt} of {nodes} nodes may be corrupt by the chain: fewer than a third is what the protocol bears"),
            "lower it with `cipherloom contracts signers threshold kms --mpc-threshold`",
        );
    } else {
        report.ok(AREA, format!("{nodes} nodes, of which {corrupt} may be corrupt"));
    }
    if nodes == 1 {
        report.warn(
            AREA,
            "CENTRALISED: one node has the whole key",
            "a committee has at least four nodes",
        );
    } else if corrupt == 0 {
        report.warn(
            AREA,
            "no node may be corrupt: each single one can read everything",
            "deal the key for a higher threshold",
        );
    }
    if public <= corrupt {
        report.fail(
            AREA,
            format!("{public} signatures are enough for a public decryption: {corrupt} corrupt nodes could forge one"),
            "raise it with `cipherloom contracts signers threshold kms --threshold`",
        );
    } else {
        report.ok(
            AREA,
            format!("public decryptions need {public} signatures, more than may be corrupt"),
        );
    }
    if user <= corrupt.saturating_mul(2) && corrupt > 0 {
        report.warn(
            AREA,
            format!("clients take {user} answers: with {corrupt} wrong ones among them they could not tell which"),
            "raise it with `cipherloom contracts signers threshold kms --user-decryption-threshold`: twice as many as may be corrupt, and one",
        );
    }
    if public > honest || user > honest {
        report.warn(
            AREA,
            format!("if the {corrupt} that may be corrupt are silent, nothing is decrypted: {public} signatures and {user} answers are asked for, and {honest} are left"),
            "lower the thresholds to what honest nodes can give",
        );
    }
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::B256;
    use cipherloom_service::report::Level;

    use super::*;

    fn committee(nodes: u8, corrupt: u64, public: u64, user: u64) -> CommitteeOnChain {
        CommitteeOnChain {
            chain_id: 1,
            context_id: B256::ZERO,
            epoch_id: B256::ZERO,
            signers: (1..=nodes).map(Address::repeat_byte).collect(),
            public_decryption_threshold: public,
            user_decryption_threshold: user,
            mpc_threshold: corrupt,
        }
    }

    fn node(signer: Option<u8>) -> Found {
        Found {
            url: "http://n".into(),
            signer: signer.map(Address::repeat_byte),
            claims: None,
            status: None,
            record: None,
        }
    }

    fn found(committee: &CommitteeOnChain, signers: &[Option<u8>]) -> (Level, String) {
        let mut report = Report::default();
        judge(
            committee,
            &signers.iter().map(|signer| node(*signer)).collect::<Vec<_>>(),
            &mut report,
        );
        (report.worst(), [report.failures(), report.warnings()].concat().join("\n"))
    }

    #[test]
    fn usual_committees_that_were_looked_at_completely_are_fine() {
        for (nodes, corrupt, public, user) in [(4, 1, 2, 3), (7, 2, 3, 5), (13, 4, 5, 9)] {
            let signers: Vec<Option<u8>> = (1..=nodes).map(Some).collect();
            assert_eq!(
                found(&committee(nodes, corrupt, public, user), &signers),
                (Level::Ok, String::new())
            );
        }
    }

    #[test]
    fn thresholds_that_give_corrupt_nodes_power_are_wrong() {
        let all = [1, 2, 3, 4].map(Some);
        let cases = [
            (committee(4, 1, 1, 3), Level::Fail, "could forge"),
            (committee(4, 2, 3, 3), Level::Fail, "fewer than a third"),
            (committee(4, 1, 2, 2), Level::Warn, "could not tell which"),
            (committee(4, 1, 4, 3), Level::Warn, "are silent"),
            (committee(4, 0, 1, 1), Level::Warn, "each single one"),
        ];
        for (committee, level, words) in cases {
            let (worst, text) = found(&committee, &all);
            assert!(worst == level && text.contains(words), "{words}: {worst:?} {text}");
        }
        let (worst, text) = found(&committee(1, 0, 1, 1), &[Some(1)]);
        assert!(worst == Level::Warn && text.contains("CENTRALISED"), "{text}");
    }

    #[test]
    fn who_was_not_looked_at_is_told() {
        let four = committee(4, 1, 2, 3);
        let (level, text) = found(&four, &[Some(1), Some(2), Some(3), None]);
        assert!(level == Level::Warn && text.contains("NOT CHECKED: 1 of 4"), "{text}");
        let (level, text) = found(&four, &[Some(1), Some(2), Some(3), Some(3), Some(4)]);
        assert!(level == Level::Warn && text.contains("the same node"), "{text}");
    }
}
