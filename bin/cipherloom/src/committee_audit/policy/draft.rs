//! `cipherloom kms policy make`: what nodes measure now, as a policy.
//!
//! What runs is not therefore good: the draft is for comparing with the measurements of a build, and says so.

use std::sync::Arc;

use alloy::primitives::{B256, FixedBytes};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_attest::{
    AttestError, CollateralStore, Evidence, Image, Occasion, Policy, Statement, TcbPolicy, TeeKind, Verifier, event_log,
};
use cipherloom_kms_node::public::documents::Attestation;
use futures_util::future::try_join_all;

use super::{MakeOptions, write_whole};
use crate::committee_audit::{nodes::Node, time, web::Web};

/// What `--help` begins with.
pub(super) const HELP: &str = "\
Draft a policy from what nodes measure now, to be compared with the measurements of a build before it is used.

Each node is challenged, and its evidence verified: the manufacturer's signatures, the platform's state, that it is for this challenge, and the log of what was measured. What \
cannot be found out this way is whether the software is good. Build the image yourself, or get its measurements from somebody you trust, and compare; then give the same file to all \
nodes and to `cipherloom kms verify`.

  cipherloom kms policy collateral --node https://kms-1.example --output collateral
  cipherloom kms policy make --node https://kms-1.example --node https://kms-2.example --name 'cipherloom-kms 1.0' \\
      --collateral collateral --output policy.json";

/// Challenges the nodes and writes the policy.
///
/// # Errors
/// If a node does not answer, its evidence does not hold, or it is simulated.
pub(super) async fn run(options: &MakeOptions) -> Result<()> {
    let web = Web::new(options.node_ca.as_deref())?;
    let store = match &options.collateral {
        Some(directory) => CollateralStore::read_directory(directory)?,
        None => CollateralStore::default(),
    };
    // Which software is accepted does not matter for the platform's part.
    let verifier = Verifier::new(Policy::insecure_simulated_only(), Arc::new(store))?;
    let now = time::now();
    let measure = async |url: &String| {
        let node = Node::new(&web, url);
        let (signed, nonce) = node.attestation().await?;
        let Attestation { statement, evidence } = signed.document;
        ensure!(
            signed.signer == statement.signer,
            "{url}: the evidence is about {}, and the answer is signed by {}",
            statement.signer,
            signed.signer
        );
        let measured = measured(&verifier, &statement, &evidence, nonce, now).with_context(|| url.clone())?;
        anyhow::Ok((url.clone(), measured))
    };
    let found = try_join_all(options.nodes.iter().map(measure)).await?;
    let simulated: Vec<&str> = found
        .iter()
        .filter(|(_, image)| image.is_none())
        .map(|(url, _)| url.as_str())
        .collect();
    let policy = if simulated.is_empty() {
        let images = found.iter().filter_map(|(_, image)| image.clone());
        Policy {
            images: merged(images, &options.name),
            tcb: TcbPolicy::default(),
            allow_insecure_simulated: false,
            ..Policy::insecure_simulated_only()
        }
    } else if options.allow_simulated && simulated.len() == found.len() {
        Policy::insecure_simulated_only()
    } else {
        bail!(
            "the evidence of {} is simulated: there is nothing that was measured, and nothing is proven. For development, --allow-simulated drafts a policy that accepts it",
            simulated.join(", ")
        );
    };
    let mut text = serde_json::to_vec_pretty(&policy)?;
    text.push(b'\n');
    match &options.output {
        Some(path) => {
            write_whole(path, &text)?;
            println!("wrote {}, digest {}", path.display(), policy.digest()?);
        }
        None => print!("{}", String::from_utf8_lossy(&text)),
    }
    eprintln!(
        "a draft of what runs: compare it with the measurements of a build that you trust before you use it, and look at `cipherloom kms policy check`"
    );
    Ok(())
}

/// Verifies what can be verified without a list of software, and returns what was measured; `None` for simulated evidence.
fn measured(verifier: &Verifier, statement: &Statement, evidence: &Evidence, nonce: B256, now: u64) -> Result<Option<Image>, AttestError> {
    let occasion = Occasion::Challenge(nonce);
    if evidence.kind == TeeKind::InsecureSimulated {
        verifier.verify(evidence, statement, &[], &occasion, now)?;
        return Ok(None);
    }
    let platform = verifier.platform(&evidence.quote, now)?;
    let expected = statement.report_data(&[], &occasion);
    if platform.report_data != expected {
        return Err(AttestError::Binding {
            expected: Box::new(expected),
            found: Box::new(platform.report_data),
        });
    }
    let app = event_log::replay(&evidence.events, &platform.measurements.rtmr3)?;
    let wrong_length = |what: &str, length: usize| AttestError::Malformed(format!("the event log has {what} of {length} bytes"));
    Ok(Some(Image {
        name: String::new(),
        mr_td: platform.measurements.mr_td,
        rtmr0: vec![platform.measurements.rtmr0],
        rtmr1: platform.measurements.rtmr1,
        rtmr2: platform.measurements.rtmr2,
        compose_hashes: vec![
            B256::try_from(app.compose_hash.as_ref()).map_err(|_| wrong_length("a compose hash", app.compose_hash.len()))?,
        ],
        app_ids: vec![FixedBytes::<20>::try_from(app.app_id.as_ref()).map_err(|_| wrong_length("an application id", app.app_id.len()))?],
        key_providers: vec![app.key_provider],
    }))
}

/// Puts what is of the same release together: firmware, kernel and root file system are the same; machines, operators and settings differ.
fn merged(measured: impl Iterator<Item = Image>, name: &str) -> Vec<Image> {
    fn add<T: PartialEq>(list: &mut Vec<T>, new: Vec<T>) {
        for item in new {
            if !list.contains(&item) {
                list.push(item);
            }
        }
    }
    let mut images: Vec<Image> = Vec::new();
    for image in measured {
        let same = images
            .iter_mut()
            .find(|other| (other.mr_td, other.rtmr1, other.rtmr2) == (image.mr_td, image.rtmr1, image.rtmr2));
        match same {
            Some(other) => {
                add(&mut other.rtmr0, image.rtmr0);
                add(&mut other.compose_hashes, image.compose_hashes);
                add(&mut other.app_ids, image.app_ids);
                add(&mut other.key_providers, image.key_providers);
            }
            None => images.push(image),
        }
    }
    let several = images.len() > 1;
    for (number, image) in images.iter_mut().enumerate() {
        image.name = if several {
            format!("{name} ({})", number + 1)
        } else {
            name.to_owned()
        };
    }
    images
}

#[cfg(test)]
mod tests {
    use cipherloom_attest::{
        Role,
        event_log::Event,
        simulated::{InsecureSimulatedAttestor, Manufacturer, SimulatedDomain},
    };
    use cipherloom_primitives::Address;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn statement() -> Statement {
        Statement {
            role: Role::KmsNode,
            chain_id: 31337,
            context: B256::repeat_byte(7),
            party: 2,
            signer: Address::repeat_byte(8),
        }
    }

    fn attestor(app: u8, rtmr0: u8) -> InsecureSimulatedAttestor {
        let events = vec![
            Event::new("app-id", vec![app; 20]),
            Event::new("compose-hash", vec![5; 32]),
            Event::new("key-provider", b"kms".to_vec()),
            Event::new("system-ready", vec![]),
        ];
        let domain = SimulatedDomain {
            rtmr0: FixedBytes::repeat_byte(rtmr0),
            ..SimulatedDomain::default()
        };
        InsecureSimulatedAttestor::with_events(Arc::new(Manufacturer::new().unwrap()), domain, events)
    }

    /// As hardware would make it, under the simulated manufacturer's root.
    fn hardware(app: u8, rtmr0: u8, nonce: B256) -> Evidence {
        let report_data = statement().report_data(&[], &Occasion::Challenge(nonce));
        Evidence {
            kind: TeeKind::DstackTdx,
            ..attestor(app, rtmr0).make(report_data).unwrap()
        }
    }

    fn verifier() -> Verifier {
        let store = CollateralStore::default();
        let manufacturer = Manufacturer::new().unwrap();
        store.insert(manufacturer.collateral().unwrap());
        Verifier::new(Policy::insecure_simulated_only(), Arc::new(store))
            .unwrap()
            .with_insecure_root(manufacturer.root())
    }

    #[test]
    fn a_draft_accepts_the_nodes_that_it_was_made_from_and_no_other() {
        let nonce = B256::repeat_byte(1);
        let measure = |app, rtmr0| {
            measured(&verifier(), &statement(), &hardware(app, rtmr0, nonce), nonce, NOW)
                .unwrap()
                .unwrap()
        };
        let images = merged([measure(1, 1), measure(2, 2), measure(1, 1)].into_iter(), "release 1");
        assert_eq!(images.len(), 1);
        assert_eq!(
            (images[0].rtmr0.len(), images[0].app_ids.len(), images[0].compose_hashes.len()),
            (2, 2, 1)
        );
        assert_eq!(images[0].name, "release 1");
        let policy = Policy {
            images,
            allow_insecure_simulated: false,
            ..Policy::insecure_simulated_only()
        };
        let policy = Policy::from_json(&serde_json::to_vec_pretty(&policy).unwrap()).unwrap();
        let store = CollateralStore::default();
        let manufacturer = Manufacturer::new().unwrap();
        store.insert(manufacturer.collateral().unwrap());
        let strict = Verifier::new(policy, Arc::new(store))
            .unwrap()
            .with_insecure_root(manufacturer.root());
        let verify = |app, rtmr0| strict.verify(&hardware(app, rtmr0, nonce), &statement(), &[], &Occasion::Challenge(nonce), NOW);
        verify(1, 1).unwrap();
        verify(2, 2).unwrap();
        assert!(matches!(verify(3, 1), Err(AttestError::UnknownApplication { .. })));
        assert!(matches!(verify(1, 3), Err(AttestError::UnknownImage(_))));
    }

    #[test]
    fn evidence_for_another_challenge_drafts_nothing() {
        let evidence = hardware(1, 1, B256::repeat_byte(1));
        let result = measured(&verifier(), &statement(), &evidence, B256::repeat_byte(2), NOW);
        assert!(matches!(result, Err(AttestError::Binding { .. })), "{result:?}");
    }

    #[test]
    fn simulated_evidence_measures_nothing() {
        let nonce = B256::repeat_byte(1);
        let report_data = statement().report_data(&[], &Occasion::Challenge(nonce));
        let evidence = InsecureSimulatedAttestor::new("node").unwrap().make(report_data).unwrap();
        assert_eq!(measured(&verifier(), &statement(), &evidence, nonce, NOW).unwrap(), None);
    }

    #[test]
    fn releases_are_kept_apart() {
        let measure = |rtmr1| Image {
            rtmr1: FixedBytes::repeat_byte(rtmr1),
            ..measured(&verifier(), &statement(), &hardware(1, 1, B256::ZERO), B256::ZERO, NOW)
                .unwrap()
                .unwrap()
        };
        let names: Vec<String> = merged([measure(1), measure(2)].into_iter(), "r")
            .into_iter()
            .map(|image| image.name)
            .collect();
        assert_eq!(names, ["r (1)", "r (2)"]);
    }
}
