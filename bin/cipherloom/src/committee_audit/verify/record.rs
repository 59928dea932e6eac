//! Whether all nodes have the same record of the ceremony, and what it proves.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, Result};
use cipherloom_attest::TeeKind;
use cipherloom_ceremony::{MAX_RECORD_BYTES, Record};
use cipherloom_chain::CommitteeOnChain;
use cipherloom_fhe::ParameterSet;
use cipherloom_primitives::B256;
use cipherloom_service::report::{Level, Report};

use super::node::{Found, Setting};
use crate::committee_audit::ids::counted;

const AREA: &str = "ceremony";

/// Judges the records of the nodes; returns the one that all have, if it holds.
pub(super) fn check(nodes: &[Found], setting: &Setting<'_>, earlier: &[PathBuf], report: &mut Report) -> Option<Record> {
    let mut records = nodes.iter().filter_map(|node| Some((node, node.record.as_ref()?)));
    let Some((_, record)) = records.next() else {
        report.warn(
            AREA,
            "NOT CHECKED: no node has a record of a ceremony",
            "there was no ceremony yet, or these nodes are centralised",
        );
        return None;
    };
    // Whether nodes say the same is by what all members signed.
    let digest = match record.digest() {
        Ok(digest) => digest,
        Err(error) => {
            report.fail(AREA, error.to_string(), "ask the operators");
            return None;
        }
    };
    for (node, other) in records {
        if other.digest().ok() != Some(digest) {
            report.fail(
                AREA,
                format!("{}: its record is another one than the others'", node.url),
                "a ceremony is under way, or the node was left behind",
            );
        }
    }
    if let Err(error) = record.check() {
        report.fail(AREA, format!("the record does not hold: {error}"), "do not trust this committee");
        return None;
    }
    report.ok(
        AREA,
        format!(
            "record {digest}: all {} members signed it, and their shares decrypt what it says",
            record.core.seats.members.len()
        ),
    );
    judge_seats(record, setting.committee, report);
    judge_shares(nodes, record, digest, report);
    judge_parameters(record, setting, report);
    match record.check_evidence(setting.verifier, setting.now) {
        Ok(()) => {
            let dealer = record.dealer_evidence.iter();
            let evidence = dealer.chain(record.core.cards.iter().chain(&record.core.dealer).map(|card| &card.evidence));
            let simulated = evidence.filter(|evidence| evidence.kind == TeeKind::InsecureSimulated).count();
            report.expect(
                AREA,
                simulated == 0,
                "the hardware of its participants was what the policy accepts",
                (
                    setting.insecure(),
                    "INSECURE: evidence of the ceremony is SIMULATED: nothing says where the key was made".to_owned(),
                    "use it for development only".to_owned(),
                ),
            );
        }
        Err(error) => report.fail(
            AREA,
            format!("the evidence of the ceremony is not believed: {error}"),
            "if the software was upgraded since, the policy must still list the release that the ceremony was done with",
        ),
    }
    judge_origin(record, setting, earlier, report);
    Some(record.clone())
}

fn judge_seats(record: &Record, committee: &CommitteeOnChain, report: &mut Report) {
    let seats = &record.core.seats;
    let differences: Vec<String> = [
        (record.core.chain_id != committee.chain_id).then(|| format!("it is of chain {}", record.core.chain_id)),
        (seats.context != committee.context_id).then(|| format!("it is of context {}", counted(seats.context))),
        (seats.epoch != committee.epoch_id).then(|| {
            format!(
                "it is of epoch {}, and the chain is in epoch {}",
                counted(seats.epoch),
                counted(committee.epoch_id)
            )
        }),
        (seats.members != committee.signers).then(|| "its members are others, or in another order".to_owned()),
        (u64::from(seats.threshold) != committee.mpc_threshold).then(|| {
            format!(
                "its shares bear {} corrupt nodes, and the chain says {}",
                seats.threshold, committee.mpc_threshold
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    report.expect(
        AREA,
        differences.is_empty(),
        "chain, context, epoch, members and threshold are those that the chain has now",
        (
            Level::Fail,
            format!("the record is not about the chain's committee: {}", differences.join("; ")),
            "a resharing is under way, or the chain was changed without one: see docs/ceremony.md".to_owned(),
        ),
    );
}

fn judge_shares(nodes: &[Found], record: &Record, digest: B256, report: &mut Report) {
    for node in nodes {
        let Some(share) = node.status.as_ref().and_then(|status| status.share.as_ref()) else {
            continue;
        };
        if share.key_set_id != record.core.key_id || share.manifest != digest {
            report.fail(
                AREA,
                format!(
                    "{}: it serves a share of key set {} by record {}",
                    node.url, share.key_set_id, share.manifest
                ),
                "the node uses another share than the record that it shows",
            );
        }
    }
}

fn judge_parameters(record: &Record, setting: &Setting<'_>, report: &mut Report) {
    let name = &record.core.parameters;
    // Words of a server without characters that a terminal would obey.
    let shown: String = name.chars().filter(|char| !char.is_control()).collect();
    report.expect(
        AREA,
        ParameterSet::from_name(name).is_some_and(ParameterSet::is_secure),
        format!("key set {}, parameters {shown}", record.core.key_id),
        (
            setting.insecure(),
            format!("INSECURE: the key set's parameters are {shown}, which this version does not know as secure"),
            "use it for development only".to_owned(),
        ),
    );
}

/// Follows resharings back to the ceremony that made the key.
fn judge_origin(newest: &Record, setting: &Setting<'_>, earlier: &[PathBuf], report: &mut Report) {
    let mut known = Vec::new();
    for path in earlier {
        match read(path) {
            Ok(found) => known.push(found),
            Err(error) => report.fail(AREA, format!("{error:#}"), "name records as nodes show them at /manifest"),
        }
    }
    let mut record = newest;
    // As many steps as there are records: one that leads back to itself would need a collision, and ends here nevertheless.
    for _ in 0..=known.len() {
        let Some(previous) = record.core.previous else {
            let dealer = record.core.dealer.as_ref().map(|dealer| dealer.signer).unwrap_or_default();
            report.ok(
                AREA,
                format!(
                    "the key was made in the hardware of the dealer {dealer}, in epoch {}",
                    counted(record.core.seats.epoch)
                ),
            );
            return;
        };
        let Some((_, next)) = known.iter().find(|(digest, _)| *digest == previous) else {
            report.warn(
                AREA,
                format!("NOT CHECKED: where the key comes from: the shares were made from those of record {previous}"),
                "name that record, and those before it, with --earlier-record; operators keep what nodes showed at /manifest",
            );
            return;
        };
        let problem = if next.core.key_id != record.core.key_id || next.core.material != record.core.material {
            Some("it is of another key".to_owned())
        } else {
            next.check()
                .and_then(|()| next.check_evidence(setting.verifier, setting.now))
                .err()
                .map(|error| error.to_string())
        };
        if let Some(problem) = problem {
            report.fail(
                AREA,
                format!("the earlier record {previous} does not hold: {problem}"),
                "do not trust this key",
            );
            return;
        }
        record = next;
    }
}

fn read(path: &PathBuf) -> Result<(B256, Record)> {
    let unreadable = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(unreadable)?;
    file.take(MAX_RECORD_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(unreadable)?;
    let record = Record::from_json(&bytes).with_context(|| path.display().to_string())?;
    Ok((record.digest()?, record))
}
