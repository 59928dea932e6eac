//! Quotes of real hardware.

use std::sync::Arc;

use alloy_primitives::FixedBytes;
use cipherloom_attest::{AttestError, Collateral, CollateralStore, Image, PlatformReport, Policy, TcbPolicy, TcbStatus, Verifier};

const TDX10: &[u8] = include_bytes!("../recorded/tdx10.quote");
const TDX10_COLLATERAL: &[u8] = include_bytes!("../recorded/tdx10.collateral.json");
const TDX15: &[u8] = include_bytes!("../recorded/tdx15.quote");
const TDX15_COLLATERAL: &[u8] = include_bytes!("../recorded/tdx15.collateral.json");
const SGX: &[u8] = include_bytes!("../recorded/sgx.quote");
const SGX_COLLATERAL: &[u8] = include_bytes!("../recorded/sgx.collateral.json");

/// 2025-07-01 and 2026-10-20, inside the windows of the statements.
const JULY_2025: u64 = 1_751_328_000;
const OCTOBER_2026: u64 = 1_792_454_400;
const DAY: u64 = 24 * 3600;

fn image() -> Image {
    Image {
        name: "another release".into(),
        mr_td: FixedBytes::repeat_byte(1),
        rtmr0: vec![FixedBytes::repeat_byte(2)],
        rtmr1: FixedBytes::repeat_byte(3),
        rtmr2: FixedBytes::repeat_byte(4),
        compose_hashes: vec![[5; 32].into()],
        app_ids: vec![FixedBytes::repeat_byte(6)],
        key_providers: vec![vec![7].into()],
    }
}

fn policy() -> Policy {
    Policy {
        images: vec![image()],
        allow_insecure_simulated: false,
        ..Policy::insecure_simulated_only()
    }
}

fn platform(policy: Policy, collateral: &[u8], quote: &[u8], now: u64) -> Result<PlatformReport, AttestError> {
    let store = CollateralStore::default();
    store.insert(Collateral::from_json(collateral)?);
    Verifier::new(policy, Arc::new(store))?.platform(quote, now)
}

#[test]
fn real_quotes_are_accepted_at_their_time() {
    let report = platform(policy(), TDX10_COLLATERAL, TDX10, JULY_2025).unwrap();
    assert_eq!(report.tcb_status, "UpToDate");
    assert!(report.advisories.is_empty());
    assert!(report.collateral_expires > JULY_2025 && report.collateral_expires < JULY_2025 + 31 * DAY);
    let report = platform(policy(), TDX15_COLLATERAL, TDX15, OCTOBER_2026).unwrap();
    assert_eq!(report.tcb_status, "UpToDate");
    assert_ne!(
        report.measurements.rtmr3,
        FixedBytes::<48>::ZERO,
        "this one measured an application"
    );
}

#[test]
fn statements_do_not_hold_before_or_after_their_time() {
    for now in [0, JULY_2025 - 60 * DAY, JULY_2025 + 30 * DAY, OCTOBER_2026, u64::from(u32::MAX)] {
        let result = platform(policy(), TDX10_COLLATERAL, TDX10, now);
        assert!(matches!(result, Err(AttestError::Quote(_))), "{now}: {result:?}");
    }
    // The newer statements are about the same family of platforms, but not for that time.
    assert!(matches!(
        platform(policy(), TDX15_COLLATERAL, TDX10, JULY_2025),
        Err(AttestError::Quote(_))
    ));
}

#[test]
fn every_flipped_byte_is_noticed() {
    for (quote, collateral, now) in [(TDX10, TDX10_COLLATERAL, JULY_2025), (TDX15, TDX15_COLLATERAL, OCTOBER_2026)] {
        let store = CollateralStore::default();
        store.insert(Collateral::from_json(collateral).unwrap());
        let verifier = Verifier::new(policy(), Arc::new(store)).unwrap();
        for index in 0..quote.len() {
            let mut flipped = quote.to_vec();
            flipped[index] ^= 1 << (index % 8);
            let result = verifier.platform(&flipped, now);
            assert!(result.is_err(), "byte {index}: {result:?}");
        }
        // The oldest quote ends in zeros that its buffer had left; everything before them counts.
        let content = quote.iter().rposition(|byte| *byte != 0).unwrap();
        for length in (0..content).step_by(97).chain([content]) {
            assert!(verifier.platform(&quote[..length], now).is_err(), "length {length}");
        }
        let longer = [quote, &[1]].concat();
        assert!(matches!(verifier.platform(&longer, now), Err(AttestError::Malformed(_))));
    }
}

#[test]
fn tampered_statements_are_refused() {
    let text = std::str::from_utf8(TDX10_COLLATERAL).unwrap();
    for (from, to) in [
        ("OutOfDate", "UpToDate "),
        (r#"\"tcbEvaluationDataNumber\":17"#, r#"\"tcbEvaluationDataNumber\":99"#),
        ("2025-07-19", "2035-07-19"),
    ] {
        assert!(text.contains(from), "{from}");
        let result = platform(policy(), text.replace(from, to).as_bytes(), TDX10, JULY_2025);
        assert!(result.is_err(), "{from}: {result:?}");
    }
}

#[test]
fn another_root_does_not_vouch_for_real_hardware() {
    let store = CollateralStore::default();
    store.insert(Collateral::from_json(TDX10_COLLATERAL).unwrap());
    let manufacturer = cipherloom_attest::simulated::Manufacturer::new().unwrap();
    let verifier = Verifier::new(policy(), Arc::new(store))
        .unwrap()
        .with_insecure_root(manufacturer.root());
    assert!(matches!(verifier.platform(TDX10, JULY_2025), Err(AttestError::Quote(_))));
}

#[test]
fn the_policy_decides_about_the_platform() {
    let with = |tcb: TcbPolicy| platform(Policy { tcb, ..policy() }, TDX10_COLLATERAL, TDX10, JULY_2025);
    let refused = |result: Result<PlatformReport, AttestError>| matches!(result, Err(AttestError::Platform(_)));
    assert!(refused(with(TcbPolicy {
        allow_dynamic_platform: false,
        ..TcbPolicy::default()
    })));
    assert!(refused(with(TcbPolicy {
        min_evaluation: 18,
        ..TcbPolicy::default()
    })));
    assert!(refused(with(TcbPolicy {
        statuses: vec![],
        ..TcbPolicy::default()
    })));
    assert!(refused(with(TcbPolicy {
        statuses: vec![TcbStatus::OutOfDate],
        ..TcbPolicy::default()
    })));
    with(TcbPolicy {
        min_evaluation: 17,
        ..TcbPolicy::default()
    })
    .unwrap();
}

#[test]
fn an_enclave_is_no_trust_domain() {
    let result = platform(policy(), SGX_COLLATERAL, SGX, JULY_2025);
    assert!(matches!(result, Err(AttestError::Malformed(_))), "{result:?}");
}

#[test]
fn without_statements_about_the_platform_nothing_is_believed() {
    let verifier = Verifier::new(policy(), Arc::new(CollateralStore::default())).unwrap();
    assert!(matches!(
        verifier.platform(TDX10, JULY_2025),
        Err(AttestError::NoCollateral { fmspc }) if fmspc == "B0C06F000000"
    ));
}

#[test]
fn an_empty_policy_makes_no_verifier() {
    let empty = Policy {
        images: vec![],
        ..policy()
    };
    assert!(matches!(
        Verifier::new(empty, Arc::new(CollateralStore::default())),
        Err(AttestError::EmptyPolicy)
    ));
}

#[test]
fn a_directory_of_statements_is_read() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("b0c06f.json"), TDX10_COLLATERAL).unwrap();
    std::fs::write(directory.path().join("notes.txt"), "not read").unwrap();
    let store = CollateralStore::read_directory(directory.path()).unwrap();
    Verifier::new(policy(), Arc::new(store))
        .unwrap()
        .platform(TDX10, JULY_2025)
        .unwrap();
    std::fs::write(directory.path().join("broken.json"), "{}").unwrap();
    let broken = CollateralStore::read_directory(directory.path());
    assert!(matches!(broken, Err(AttestError::Malformed(problem)) if problem.contains("broken.json")));
}
