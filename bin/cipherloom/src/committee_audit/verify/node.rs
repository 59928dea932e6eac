//! What is checked of one node.

use cipherloom_attest::{AttestError, Claims, Occasion, Role, Statement, TeeKind, Verifier};
use cipherloom_ceremony::Record;
use cipherloom_chain::CommitteeOnChain;
use cipherloom_kms_node::public::documents::{Attestation, NodeState, NodeStatus};
use cipherloom_primitives::{Address, B256};
use cipherloom_service::report::{Level, Report};

use crate::committee_audit::{
    ids::counted,
    nodes::{Node, Signed},
    time,
};

const AREA: &str = "nodes";

/// How far a node's clock may be from ours: windows of permits are judged by it.
const MAX_SKEW_SECONDS: u64 = 60;

/// How long before the manufacturer's statements expire one is reminded, in seconds.
const REMINDER_SECONDS: u64 = 3 * 86_400;

/// By what nodes are judged.
pub(super) struct Setting<'a> {
    pub(super) verifier: &'a Verifier,
    pub(super) committee: &'a CommitteeOnChain,
    pub(super) now: u64,
    pub(super) allow_insecure: bool,
}

impl Setting<'_> {
    /// How bad it is that something is for development only.
    pub(super) const fn insecure(&self) -> Level {
        if self.allow_insecure { Level::Warn } else { Level::Fail }
    }
}

/// What was found out about a node, as far as it is proven.
pub(super) struct Found {
    pub(super) url: String,
    /// The signer, if evidence binds it.
    pub(super) signer: Option<Address>,
    pub(super) claims: Option<Claims>,
    /// What the node says about itself, signed by that signer.
    pub(super) status: Option<NodeStatus>,
    pub(super) record: Option<Record>,
}

/// A node with its findings.
pub(super) struct Checked {
    pub(super) found: Found,
    pub(super) report: Report,
}

/// Challenges a node and judges what it answers.
pub(super) async fn check(node: Node, setting: &Setting<'_>) -> Checked {
    let mut report = Report::default();
    let mut found = Found {
        url: node.url().to_owned(),
        signer: None,
        claims: None,
        status: None,
        record: None,
    };
    match node.attestation().await {
        Err(error) => report.fail(
            AREA,
            format!("{error:#}"),
            "check that the node runs and that this is its public port",
        ),
        Ok((Signed { document, signer }, nonce)) => {
            if let Some(claims) = judge_evidence(&found.url, &document, signer, nonce, setting, &mut report) {
                found.signer = Some(signer);
                found.claims = Some(claims);
            }
        }
    }
    // What follows is the word of whoever signs, which the evidence says is that software.
    let Some(signer) = found.signer else {
        return Checked { found, report };
    };
    let is_its = |other: Address, what: &str, report: &mut Report| {
        if other != signer {
            report.fail(
                AREA,
                format!("{}: {what} is signed by {other}, and the evidence is about {signer}", node.url()),
                "something between you and the node answers in its place",
            );
        }
        other == signer
    };
    match node.status().await {
        Ok(status) if is_its(status.signer, "its status", &mut report) => {
            judge_status(&found.url, &status.document, setting, &mut report);
            found.status = Some(status.document);
        }
        Ok(_) => {}
        Err(error) => report.fail(AREA, format!("{error:#}"), "check the node"),
    }
    match node.manifest().await {
        Ok(Some(manifest)) if is_its(manifest.signer, "its record", &mut report) => match Record::from_json(&manifest.document) {
            Ok(record) => found.record = Some(record),
            Err(error) => report.fail(
                AREA,
                format!("{}: {error}", node.url()),
                "the node's version may be another one than this",
            ),
        },
        Ok(_) => {}
        Err(error) => report.fail(AREA, format!("{error:#}"), "check the node"),
    }
    Checked { found, report }
}

/// Judges the answer to a challenge; returns what it proves if it proves that the signer is in hardware that the policy accepts, or is simulated and may be.
fn judge_evidence(
    url: &str,
    answer: &Attestation,
    signer: Address,
    nonce: B256,
    setting: &Setting<'_>,
    report: &mut Report,
) -> Option<Claims> {
    let Attestation { statement, evidence } = answer;
    if statement.signer != signer {
        report.fail(
            AREA,
            format!(
                "{url}: the evidence is about {}, and the answer is signed by {signer}",
                statement.signer
            ),
            "something between you and the node answers in its place",
        );
        return None;
    }
    let claims = match setting
        .verifier
        .verify(evidence, statement, &[], &Occasion::Challenge(nonce), setting.now)
    {
        Ok(claims) => claims,
        Err(error) => {
            report.fail(AREA, format!("{url}: its evidence is not believed: {error}"), remedy(&error));
            return None;
        }
    };
    judge_claims(url, &claims, setting, report);
    judge_statement(url, statement, setting.committee, report);
    Some(claims)
}

fn judge_claims(url: &str, claims: &Claims, setting: &Setting<'_>, report: &mut Report) {
    let simulated = claims.kind == TeeKind::InsecureSimulated;
    report.expect(
        AREA,
        !simulated,
        format!(
            "{url}: {}, {}, platform {}{}, application {}, composition {}, instance {}",
            claims.kind.as_str(),
            claims.image.as_deref().unwrap_or("no image"),
            claims.tcb_status,
            if claims.advisories.is_empty() {
                String::new()
            } else {
                format!(" ({})", claims.advisories.join(", "))
            },
            claims.app.app_id,
            claims.app.compose_hash,
            claims.app.instance_id
        ),
        (
            setting.insecure(),
            format!("{url}: INSECURE: its evidence is SIMULATED and proves nothing: anybody can make it"),
            "use it for development only; in production this node must not be part of a committee".to_owned(),
        ),
    );
    if !simulated && claims.collateral_expires < setting.now.saturating_add(REMINDER_SECONDS) {
        report.warn(
            AREA,
            format!(
                "{url}: the manufacturer's statements expire at {}",
                time::date_time(claims.collateral_expires)
            ),
            "fetch newer ones with `cipherloom kms policy collateral`",
        );
    }
}

fn judge_statement(url: &str, statement: &Statement, committee: &CommitteeOnChain, report: &mut Report) {
    let Statement {
        role,
        chain_id,
        context,
        party,
        signer,
    } = statement;
    let registered = committee.party_of(*signer);
    let problem = if *role != Role::KmsNode {
        Some(format!("it is no KMS node but a {}", role.as_str()))
    } else if *chain_id != committee.chain_id {
        Some(format!("it serves chain {chain_id}"))
    } else if registered.is_none() {
        Some(format!("{signer} is not registered in the current context"))
    } else if *context != committee.context_id {
        Some(format!("it speaks for context {}", counted(*context)))
    } else if registered != Some(*party) {
        Some(format!(
            "it says to be party {party}, and the chain lists it at place {}",
            registered.unwrap_or_default()
        ))
    } else {
        None
    };
    match problem {
        None => report.ok(AREA, format!("{url}: {} is registered as party {party}", signer.to_checksum(None))),
        Some(problem) => report.fail(
            AREA,
            format!("{url}: {problem}"),
            "name the nodes of this chain's current context, and register them in their order with `cipherloom contracts signers`",
        ),
    }
}

fn judge_status(url: &str, status: &NodeStatus, setting: &Setting<'_>, report: &mut Report) {
    let committee = setting.committee;
    let serving = status.state == NodeState::Serving;
    report.expect(
        AREA,
        serving,
        format!(
            "{url}: version {}, serving epoch {}",
            printable(&status.version),
            counted(status.epoch)
        ),
        (
            Level::Warn,
            format!("{url}: it is not serving: {}", status.state.as_str()),
            "see `cipherloom kms status`".to_owned(),
        ),
    );
    let share_fits = status
        .share
        .as_ref()
        .is_some_and(|share| share.context == committee.context_id && share.epoch == committee.epoch_id);
    if serving && !share_fits {
        report.fail(
            AREA,
            format!(
                "{url}: its share is of epoch {}, and the chain is in epoch {}",
                status.share.as_ref().map_or_else(|| "none".into(), |share| counted(share.epoch)),
                counted(committee.epoch_id)
            ),
            "a resharing is under way or was not finished: see docs/ceremony.md",
        );
    }
    if status.insecure_parameters {
        let message = format!("{url}: INSECURE: its key set hides nothing");
        let remedy = "use it for development only";
        match setting.insecure() {
            Level::Fail => report.fail(AREA, message, remedy),
            Level::Warn | Level::Ok => report.warn(AREA, message, remedy),
        }
    }
    match setting.verifier.policy().digest() {
        Ok(ours) if ours == status.policy => {}
        _ => report.warn(
            AREA,
            format!("{url}: it judges other nodes by another policy, {}", status.policy),
            "get that policy and look at it with `cipherloom kms policy check`: the node gives its share to whom it accepts in a resharing",
        ),
    }
    if status.time.abs_diff(setting.now) > MAX_SKEW_SECONDS {
        report.warn(
            AREA,
            format!("{url}: its clock is {} s from this machine's", status.time.abs_diff(setting.now)),
            "one of the two is wrong: windows of permits are judged by the node's",
        );
    }
}

/// What to do about evidence that is not believed.
const fn remedy(error: &AttestError) -> &'static str {
    match error {
        AttestError::NoCollateral { .. } => {
            "fetch the statements with `cipherloom kms policy collateral`, and name their directory with --collateral"
        }
        AttestError::Quote(_) => {
            "if the statements have expired, fetch newer ones with `cipherloom kms policy collateral`; otherwise the evidence is forged"
        }
        AttestError::UnknownImage(_) | AttestError::UnknownApplication { .. } => {
            "the node runs other software than you accept: compare its measurements with those of a build that you trust"
        }
        AttestError::Binding { .. } => "the evidence is not for your challenge, or about another node",
        AttestError::Platform(_) => "the node's operator has to update the platform, or you accept its state in tcb of the policy",
        AttestError::Simulated(_) => "a node with simulated evidence proves nothing; for development the policy can allow it",
        _ => "do not trust this node",
    }
}

/// Words of a server without characters that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cipherloom_attest::{
        CollateralStore, Evidence, Image, Policy,
        event_log::Event,
        simulated::{InsecureSimulatedAttestor, Manufacturer, SimulatedDomain},
    };
    use cipherloom_kms_node::public::documents::{Form, ShareStatus};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const NONCE: B256 = B256::repeat_byte(9);

    fn committee() -> CommitteeOnChain {
        CommitteeOnChain {
            chain_id: 31337,
            context_id: B256::repeat_byte(1),
            epoch_id: B256::repeat_byte(2),
            signers: (1..=4).map(Address::repeat_byte).collect(),
            public_decryption_threshold: 2,
            user_decryption_threshold: 3,
            mpc_threshold: 1,
        }
    }

    fn statement() -> Statement {
        Statement {
            role: Role::KmsNode,
            chain_id: 31337,
            context: B256::repeat_byte(1),
            party: 2,
            signer: Address::repeat_byte(2),
        }
    }

    fn attestor() -> InsecureSimulatedAttestor {
        let events = vec![
            Event::new("app-id", vec![6; 20]),
            Event::new("compose-hash", vec![5; 32]),
            Event::new("key-provider", b"kms".to_vec()),
            Event::new("system-ready", vec![]),
        ];
        InsecureSimulatedAttestor::with_events(Arc::new(Manufacturer::new().unwrap()), SimulatedDomain::default(), events)
    }

    fn answer(statement: Statement, kind: TeeKind) -> Attestation {
        let report_data = statement.report_data(&[], &Occasion::Challenge(NONCE));
        let evidence = Evidence {
            kind,
            ..attestor().make(report_data).unwrap()
        };
        Attestation { statement, evidence }
    }

    /// Believes the simulated manufacturer as if it were the real one, for this image.
    fn verifier(app_id: u8) -> Verifier {
        let domain = SimulatedDomain::default();
        let policy = Policy {
            images: vec![Image {
                name: "release 1".into(),
                mr_td: domain.mr_td,
                rtmr0: vec![domain.rtmr0],
                rtmr1: domain.rtmr1,
                rtmr2: domain.rtmr2,
                compose_hashes: vec![B256::repeat_byte(5)],
                app_ids: vec![[app_id; 20].into()],
                key_providers: vec![b"kms".to_vec().into()],
            }],
            ..Policy::insecure_simulated_only()
        };
        let manufacturer = Manufacturer::new().unwrap();
        let store = CollateralStore::default();
        store.insert(manufacturer.collateral().unwrap());
        Verifier::new(policy, Arc::new(store))
            .unwrap()
            .with_insecure_root(manufacturer.root())
    }

    fn judged(answer: &Attestation, signer: Address, nonce: B256, verifier: &Verifier, allow_insecure: bool) -> (bool, Level, String) {
        let committee = committee();
        let setting = Setting {
            verifier,
            committee: &committee,
            now: NOW,
            allow_insecure,
        };
        let mut report = Report::default();
        let claims = judge_evidence("http://n", answer, signer, nonce, &setting, &mut report);
        (
            claims.is_some(),
            report.worst(),
            [report.failures(), report.warnings()].concat().join("\n"),
        )
    }

    #[test]
    fn a_registered_node_in_listed_hardware_is_fine() {
        let answer = answer(statement(), TeeKind::DstackTdx);
        let (believed, level, text) = judged(&answer, Address::repeat_byte(2), NONCE, &verifier(6), false);
        assert_eq!((believed, level), (true, Level::Ok), "{text}");
    }

    #[test]
    fn simulated_hardware_is_wrong_unless_it_is_asked_for_and_told_in_any_case() {
        let answer = answer(statement(), TeeKind::InsecureSimulated);
        for (allow, expected) in [(false, Level::Fail), (true, Level::Warn)] {
            let (believed, level, text) = judged(&answer, Address::repeat_byte(2), NONCE, &verifier(6), allow);
            assert!(believed && level == expected && text.contains("SIMULATED"), "{text}");
        }
    }

    #[test]
    fn evidence_that_is_not_believed_proves_nothing() {
        let signer = Address::repeat_byte(2);
        let right = answer(statement(), TeeKind::DstackTdx);
        let cases = [
            (right.clone(), signer, B256::ZERO, 6, "is for something else"),
            (right.clone(), Address::repeat_byte(3), NONCE, 6, "the answer is signed by"),
            (right, signer, NONCE, 7, "does not list application id"),
        ];
        for (answer, signer, nonce, app_id, words) in cases {
            let (believed, level, text) = judged(&answer, signer, nonce, &verifier(app_id), true);
            assert!(!believed && level == Level::Fail && text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_node_in_good_hardware_that_is_not_registered_as_it_says_is_wrong() {
        let cases = [
            (
                Statement {
                    role: Role::Gateway,
                    ..statement()
                },
                "no KMS node",
            ),
            (
                Statement {
                    chain_id: 12345,
                    ..statement()
                },
                "serves chain 12345",
            ),
            (
                Statement {
                    signer: Address::repeat_byte(9),
                    ..statement()
                },
                "is not registered",
            ),
            (
                Statement {
                    context: B256::ZERO,
                    ..statement()
                },
                "speaks for context",
            ),
            (Statement { party: 3, ..statement() }, "says to be party 3"),
        ];
        for (statement, words) in cases {
            let signer = statement.signer;
            let (_, level, text) = judged(&answer(statement, TeeKind::DstackTdx), signer, NONCE, &verifier(6), true);
            assert!(level == Level::Fail && text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn what_a_node_says_of_itself_is_compared_with_the_chain() {
        let (verifier, committee) = (verifier(6), committee());
        let setting = Setting {
            verifier: &verifier,
            committee: &committee,
            now: NOW,
            allow_insecure: false,
        };
        let share = ShareStatus {
            key_set_id: B256::ZERO,
            context: committee.context_id,
            epoch: committee.epoch_id,
            manifest: B256::ZERO,
        };
        let good = NodeStatus {
            version: "1".into(),
            form: Form::Threshold,
            state: NodeState::Serving,
            detail: None,
            time: NOW,
            started: NOW,
            chain_id: 31337,
            signer: Address::repeat_byte(2),
            party: 2,
            parties: 4,
            threshold: 1,
            context: committee.context_id,
            epoch: committee.epoch_id,
            share: Some(share.clone()),
            attestation: TeeKind::DstackTdx,
            policy: verifier.policy().digest().unwrap(),
            insecure_parameters: false,
        };
        let judge = |status: &NodeStatus| {
            let mut report = Report::default();
            judge_status("http://n", status, &setting, &mut report);
            (report.worst(), [report.failures(), report.warnings()].concat().join("\n"))
        };
        assert_eq!(judge(&good), (Level::Ok, String::new()));
        let old = ShareStatus {
            epoch: B256::ZERO,
            ..share
        };
        let cases = [
            (
                NodeStatus {
                    state: NodeState::AwaitingCeremony,
                    ..good.clone()
                },
                Level::Warn,
                "not serving",
            ),
            (
                NodeStatus {
                    share: Some(old),
                    ..good.clone()
                },
                Level::Fail,
                "its share is of epoch",
            ),
            (
                NodeStatus {
                    share: None,
                    ..good.clone()
                },
                Level::Fail,
                "its share is of epoch none",
            ),
            (
                NodeStatus {
                    insecure_parameters: true,
                    ..good.clone()
                },
                Level::Fail,
                "hides nothing",
            ),
            (
                NodeStatus {
                    policy: B256::ZERO,
                    ..good.clone()
                },
                Level::Warn,
                "another policy",
            ),
            (NodeStatus { time: NOW - 600, ..good }, Level::Warn, "600 s"),
        ];
        for (status, level, words) in cases {
            let (worst, text) = judge(&status);
            assert!(worst == level && text.contains(words), "{words}: {worst:?} {text}");
        }
    }
}
