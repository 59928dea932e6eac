//! Collateral put together from answers of the manufacturer's service: the recorded statements, in the form in which the service gives them.

use std::{fmt::Write as _, sync::Arc};

use cipherloom_attest::{
    AttestError, Collateral, CollateralStore, Policy, Verifier,
    pcs::{Answer, INTEL_ROOT_REVOCATIONS, INTEL_SERVICE, Piece, PlatformFamily},
};
use serde_json::Value;

const QUOTE: &[u8] = include_bytes!("../recorded/tdx10.quote");
const RECORDED: &[u8] = include_bytes!("../recorded/tdx10.collateral.json");
const JULY_2025: u64 = 1_751_328_000;

fn recorded(member: &str) -> String {
    let all: Value = serde_json::from_slice(RECORDED).unwrap();
    all[member].as_str().unwrap().to_owned()
}

/// Escapes every byte but letters and digits, as strict servers do.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() {
            escaped.push(byte.into());
        } else {
            write!(escaped, "%{byte:02X}").unwrap();
        }
        escaped
    })
}

fn answers() -> [Answer; 4] {
    let statement = |name: &str, member: &str| {
        format!(
            r#"{{"{name}":{},"signature":"{}"}}"#,
            recorded(member),
            recorded(&format!("{member}_signature"))
        )
        .into_bytes()
    };
    [
        Answer {
            body: alloy_primitives::hex::decode(recorded("pck_crl")).unwrap(),
            issuer: Some(escaped(&recorded("pck_crl_issuer_chain"))),
        },
        Answer {
            body: recorded("root_ca_crl").into_bytes(),
            issuer: None,
        },
        Answer {
            body: statement("tcbInfo", "tcb_info"),
            issuer: Some(escaped(&recorded("tcb_info_issuer_chain"))),
        },
        Answer {
            body: statement("enclaveIdentity", "qe_identity"),
            issuer: Some(escaped(&recorded("qe_identity_issuer_chain"))),
        },
    ]
}

fn family() -> PlatformFamily {
    PlatformFamily::of_quote(QUOTE).unwrap()
}

#[test]
fn what_the_service_answers_verifies_a_quote() {
    let collateral = family().assemble(answers()).unwrap();
    // Also after it was written to a file and read again.
    let collateral = Collateral::from_json(&collateral.to_json().unwrap()).unwrap();
    let store = CollateralStore::default();
    store.insert(collateral);
    assert_eq!(store.families(), 1);
    let verifier = Verifier::new(Policy::insecure_simulated_only(), Arc::new(store)).unwrap();
    assert_eq!(verifier.platform(QUOTE, JULY_2025).unwrap().tcb_status, "UpToDate");
}

#[test]
fn each_piece_is_asked_for_where_it_is() {
    let family = family();
    assert_eq!(family.name(), "B0C06F000000");
    assert_eq!(family.url(INTEL_SERVICE, Piece::RootRevocations), INTEL_ROOT_REVOCATIONS);
    let at_a_cache = Piece::ALL.map(|piece| family.url("https://pccs.example/", piece));
    assert_eq!(
        at_a_cache,
        [
            "https://pccs.example/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            "https://pccs.example/sgx/certification/v4/rootcacrl",
            "https://pccs.example/tdx/certification/v4/tcb?fmspc=B0C06F000000",
            "https://pccs.example/tdx/certification/v4/qe/identity",
        ]
    );
}

#[test]
fn answers_about_something_else_are_refused() {
    let refused = |change: &dyn Fn(&mut [Answer; 4])| {
        let mut answers = answers();
        change(&mut answers);
        let result = family().assemble(answers);
        assert!(matches!(result, Err(AttestError::Malformed(_))), "{result:?}");
    };
    refused(&|answers| answers[2].issuer = None);
    refused(&|answers| answers[2].body = b"<html>busy</html>".to_vec());
    refused(&|answers| answers[1].body = b"not found".to_vec());
    refused(&|answers| answers[3].body = vec![b' '; (256 << 10) + 1]);
    refused(&|answers| {
        let text = String::from_utf8(answers[2].body.clone()).unwrap();
        answers[2].body = text.replace("B0C06F000000", "00806F050000").into_bytes();
    });
    assert!(matches!(PlatformFamily::of_quote(&QUOTE[..1000]), Err(AttestError::Malformed(_))));
    assert!(matches!(PlatformFamily::of_quote(&[0; 17 << 10]), Err(AttestError::Malformed(_))));
}
