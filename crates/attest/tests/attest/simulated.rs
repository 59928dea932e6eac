//! What follows the manufacturer's signatures, with evidence that the tests can shape.

use std::sync::Arc;

use alloy_primitives::{Address, B256, FixedBytes};
use cipherloom_attest::{
    AttestError, Claims, CollateralStore, Evidence, Image, Occasion, Policy, Role, Statement, TcbPolicy, TcbStatus, TeeKind, Verifier,
    event_log::Event,
    simulated::{InsecureSimulatedAttestor, Manufacturer, SimulatedDomain},
};

const NOW: u64 = 1_800_000_000;
const KEY: &[u8] = b"tls key";

fn statement() -> Statement {
    Statement {
        role: Role::KmsNode,
        chain_id: 31337,
        context: B256::repeat_byte(7),
        party: 2,
        signer: Address::repeat_byte(8),
    }
}

fn events() -> Vec<Event> {
    vec![
        Event::new("app-id", vec![6; 20]),
        Event::new("compose-hash", vec![5; 32]),
        Event::new("key-provider", b"kms".to_vec()),
        Event::new("system-ready", vec![]),
    ]
}

fn image() -> Image {
    let domain = SimulatedDomain::default();
    Image {
        name: "release 1".into(),
        mr_td: domain.mr_td,
        rtmr0: vec![FixedBytes::repeat_byte(9), domain.rtmr0],
        rtmr1: domain.rtmr1,
        rtmr2: domain.rtmr2,
        compose_hashes: vec![B256::repeat_byte(5)],
        app_ids: vec![FixedBytes::repeat_byte(6)],
        key_providers: vec![b"kms".to_vec().into()],
    }
}

fn policy(images: Vec<Image>) -> Policy {
    Policy {
        images,
        allow_insecure_simulated: false,
        ..Policy::insecure_simulated_only()
    }
}

/// Evidence as hardware would make it, but under the simulated manufacturer's root.
fn hardware(domain: SimulatedDomain, events: Vec<Event>, statement: &Statement, occasion: &Occasion) -> Evidence {
    let attestor = InsecureSimulatedAttestor::with_events(Arc::new(Manufacturer::new().unwrap()), domain, events);
    Evidence {
        kind: TeeKind::DstackTdx,
        ..attestor.make(statement.report_data(KEY, occasion)).unwrap()
    }
}

fn verifier_with(policy: Policy, collateral: cipherloom_attest::Collateral) -> Verifier {
    let store = CollateralStore::default();
    store.insert(collateral);
    Verifier::new(policy, Arc::new(store))
        .unwrap()
        .with_insecure_root(Manufacturer::new().unwrap().root())
}

fn verify(policy: Policy, evidence: &Evidence) -> Result<Claims, AttestError> {
    let collateral = Manufacturer::new().unwrap().collateral().unwrap();
    verifier_with(policy, collateral).verify(evidence, &statement(), KEY, &Occasion::Certificate, NOW)
}

fn genuine() -> Evidence {
    hardware(SimulatedDomain::default(), events(), &statement(), &Occasion::Certificate)
}

#[test]
fn a_listed_image_with_a_listed_application_is_believed() {
    let claims = verify(policy(vec![image()]), &genuine()).unwrap();
    assert_eq!(claims.image.as_deref(), Some("release 1"));
    assert_eq!(claims.app.compose_hash, vec![5; 32]);
    assert_eq!(claims.kind, TeeKind::DstackTdx);
    assert_eq!(claims.policy, policy(vec![image()]).digest().unwrap());
    let two = vec![
        Image {
            mr_td: FixedBytes::ZERO,
            ..image()
        },
        image(),
    ];
    verify(policy(two), &genuine()).unwrap();
}

#[test]
fn another_measurement_is_not_believed() {
    let other = FixedBytes::repeat_byte(0xee);
    let base = SimulatedDomain::default;
    let domains = [
        SimulatedDomain { mr_td: other, ..base() },
        SimulatedDomain { rtmr0: other, ..base() },
        SimulatedDomain { rtmr1: other, ..base() },
        SimulatedDomain { rtmr2: other, ..base() },
    ];
    for domain in domains {
        let result = verify(
            policy(vec![image()]),
            &hardware(domain, events(), &statement(), &Occasion::Certificate),
        );
        assert!(matches!(result, Err(AttestError::UnknownImage(_))), "{result:?}");
    }
}

#[test]
fn another_application_is_not_believed() {
    let expected = [(0, "application id"), (1, "compose hash"), (2, "key provider")];
    for (index, name) in expected {
        let mut events = events();
        events[index].payload = vec![0xee; 20].into();
        let result = verify(
            policy(vec![image()]),
            &hardware(SimulatedDomain::default(), events, &statement(), &Occasion::Certificate),
        );
        assert!(
            matches!(result, Err(AttestError::UnknownApplication { what, .. }) if what == name),
            "{result:?}"
        );
    }
}

#[test]
fn a_log_that_was_not_measured_is_not_believed() {
    let mut evidence = genuine();
    evidence.events[1].payload = vec![0xee; 32].into();
    assert!(matches!(
        verify(policy(vec![image()]), &evidence),
        Err(AttestError::EventLog { .. })
    ));
    let none = Evidence {
        events: vec![],
        ..genuine()
    };
    assert!(matches!(verify(policy(vec![image()]), &none), Err(AttestError::EventLog { .. })));
}

#[test]
fn a_domain_that_can_be_debugged_is_not_believed() {
    for bit in [0, 4, 5] {
        let domain = SimulatedDomain {
            attributes: SimulatedDomain::default().attributes | 1 << bit,
            ..SimulatedDomain::default()
        };
        let result = verify(
            policy(vec![image()]),
            &hardware(domain, events(), &statement(), &Occasion::Certificate),
        );
        assert!(matches!(result, Err(AttestError::Debug)), "bit {bit}: {result:?}");
    }
    let careless = SimulatedDomain {
        attributes: 0,
        ..SimulatedDomain::default()
    };
    let result = verify(
        policy(vec![image()]),
        &hardware(careless, events(), &statement(), &Occasion::Certificate),
    );
    assert!(matches!(result, Err(AttestError::Quote(_))), "{result:?}");
}

#[test]
fn evidence_for_something_else_is_not_believed() {
    let collateral = || Manufacturer::new().unwrap().collateral().unwrap();
    let nonce = Occasion::Challenge(B256::repeat_byte(1));
    let check = |evidence: &Evidence, statement: &Statement, key: &[u8], occasion: &Occasion| {
        verifier_with(policy(vec![image()]), collateral()).verify(evidence, statement, key, occasion, NOW)
    };
    let fresh = hardware(SimulatedDomain::default(), events(), &statement(), &nonce);
    check(&fresh, &statement(), KEY, &nonce).unwrap();
    let replayed = [
        check(&fresh, &statement(), KEY, &Occasion::Challenge(B256::repeat_byte(2))),
        check(&fresh, &statement(), KEY, &Occasion::Connection(B256::repeat_byte(1))),
        check(&fresh, &statement(), KEY, &Occasion::Certificate),
        check(&fresh, &statement(), b"another key", &nonce),
        check(&fresh, &Statement { party: 3, ..statement() }, KEY, &nonce),
        check(
            &fresh,
            &Statement {
                chain_id: 12345,
                ..statement()
            },
            KEY,
            &nonce,
        ),
        check(
            &fresh,
            &Statement {
                signer: Address::ZERO,
                ..statement()
            },
            KEY,
            &nonce,
        ),
        check(
            &fresh,
            &Statement {
                role: Role::Dealer,
                ..statement()
            },
            KEY,
            &nonce,
        ),
    ];
    for result in replayed {
        assert!(matches!(result, Err(AttestError::Binding { .. })), "{result:?}");
    }
}

#[test]
fn the_platforms_state_counts() {
    let manufacturer = Manufacturer::new().unwrap();
    let state = |status: &str, advisories: &[&str], tcb: TcbPolicy| {
        let collateral = manufacturer
            .collateral_with(status, advisories, "2024-01-01T00:00:00Z", "2199-12-31T00:00:00Z")
            .unwrap();
        verifier_with(
            Policy {
                tcb,
                ..policy(vec![image()])
            },
            collateral,
        )
        .verify(&genuine(), &statement(), KEY, &Occasion::Certificate, NOW)
    };
    let accept = |statuses: Vec<TcbStatus>| TcbPolicy {
        statuses,
        ..TcbPolicy::default()
    };
    let refused = |result: Result<Claims, AttestError>| matches!(result, Err(AttestError::Platform(_)));

    assert!(refused(state("OutOfDate", &[], TcbPolicy::default())));
    assert!(refused(state("SWHardeningNeeded", &[], TcbPolicy::default())));
    let claims = state("SWHardeningNeeded", &["INTEL-SA-00001"], accept(vec![TcbStatus::SwHardeningNeeded])).unwrap();
    assert_eq!(claims.advisories, ["INTEL-SA-00001"]);
    let without = TcbPolicy {
        refused_advisories: vec!["INTEL-SA-00001".into()],
        ..accept(vec![TcbStatus::SwHardeningNeeded])
    };
    assert!(refused(state("SWHardeningNeeded", &["INTEL-SA-00001"], without.clone())));
    state("SWHardeningNeeded", &["INTEL-SA-00002"], without).unwrap();
    // Out of date is accepted for a time, counted from the state's date in 2024.
    assert!(refused(state("OutOfDate", &[], accept(vec![TcbStatus::OutOfDate]))));
    let patient = TcbPolicy {
        grace_days: 3650,
        ..accept(vec![TcbStatus::OutOfDate])
    };
    state("OutOfDate", &[], patient).unwrap();
    // A revoked platform has no policy to save it.
    assert!(matches!(state("Revoked", &[], TcbPolicy::default()), Err(AttestError::Quote(_))));
}

#[test]
fn expired_statements_do_not_count() {
    let manufacturer = Manufacturer::new().unwrap();
    let stale = manufacturer
        .collateral_with("UpToDate", &[], "2024-01-01T00:00:00Z", "2024-01-31T00:00:00Z")
        .unwrap();
    let result = verifier_with(policy(vec![image()]), stale).verify(&genuine(), &statement(), KEY, &Occasion::Certificate, NOW);
    assert!(matches!(result, Err(AttestError::Quote(_))), "{result:?}");
}

#[test]
fn simulated_hardware_is_not_real_hardware() {
    // The same bytes, without the test's root: Intel does not vouch for them.
    let store = CollateralStore::default();
    store.insert(Manufacturer::new().unwrap().collateral().unwrap());
    let verifier = Verifier::new(policy(vec![image()]), Arc::new(store)).unwrap();
    let result = verifier.verify(&genuine(), &statement(), KEY, &Occasion::Certificate, NOW);
    assert!(matches!(result, Err(AttestError::Quote(_))), "{result:?}");
}

#[test]
fn simulated_evidence_needs_the_consent_of_policy_and_chain() {
    let attestor = InsecureSimulatedAttestor::new("cipherloom-kms").unwrap();
    let make = |statement: &Statement| attestor.make(statement.report_data(KEY, &Occasion::Certificate)).unwrap();
    let verify = |policy: Policy, statement: &Statement| {
        let verifier = Verifier::new(policy, Arc::new(CollateralStore::default())).unwrap();
        verifier.verify(&make(statement), statement, KEY, &Occasion::Certificate, NOW)
    };
    let claims = verify(Policy::insecure_simulated_only(), &statement()).unwrap();
    assert_eq!((claims.kind, claims.image), (TeeKind::InsecureSimulated, None));
    let mainnet = Statement {
        chain_id: 1,
        ..statement()
    };
    assert!(matches!(
        verify(Policy::insecure_simulated_only(), &mainnet),
        Err(AttestError::Simulated(_))
    ));
    assert!(matches!(
        verify(policy(vec![image()]), &statement()),
        Err(AttestError::Simulated(_))
    ));
}

#[test]
fn simulated_evidence_is_bound_like_any_other() {
    let attestor = InsecureSimulatedAttestor::new("cipherloom-kms").unwrap();
    let evidence = attestor.make(statement().report_data(KEY, &Occasion::Certificate)).unwrap();
    let verifier = Verifier::new(Policy::insecure_simulated_only(), Arc::new(CollateralStore::default())).unwrap();
    let other = verifier.verify(&evidence, &statement(), b"another key", &Occasion::Certificate, NOW);
    assert!(matches!(other, Err(AttestError::Binding { .. })));
    let mut flipped = evidence.clone();
    let mut quote = flipped.quote.to_vec();
    quote[600] ^= 1;
    flipped.quote = quote.into();
    let result = verifier.verify(&flipped, &statement(), KEY, &Occasion::Certificate, NOW);
    assert!(matches!(result, Err(AttestError::Quote(_))), "{result:?}");
}
