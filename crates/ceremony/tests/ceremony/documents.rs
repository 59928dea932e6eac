//! What arrives from outside, damaged in every way: refused, and never a panic.

use cipherloom_ceremony::{Backup, Card, Proposal, Record, RecoveryCard, RecoveryKey, SealedPiece};
use proptest::prelude::*;

use crate::committee::Deployment;

fn read_all(bytes: &[u8]) {
    let _ = Record::from_json(bytes).map(|record| record.check());
    let _ = Proposal::from_json(bytes);
    let _ = Backup::from_json(bytes).map(|backup| backup.check(Default::default()));
    let _ = RecoveryKey::from_json(bytes);
    let _ = RecoveryCard::from_json(bytes);
    let _ = SealedPiece::from_json(bytes);
    let _ = serde_json::from_slice::<Card>(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn noise_is_no_document(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
    }

    #[test]
    fn documents_with_any_text_in_their_fields_are_refused(field in "[a-zA-Z]{0,12}", text in "\\PC{0,40}") {
        read_all(serde_json::json!({ "version": 1, field: text }).to_string().as_bytes());
    }
}

#[tokio::test]
async fn every_damaged_byte_of_a_record_is_noticed() {
    let deployment = Deployment::new(4).await;
    let json = deployment.deal(&[0, 1, 2, 3], 1).await.record.to_json().unwrap();
    Record::from_json(&json).unwrap().check().unwrap();
    // A sample of all places, another one each time; the dealer's evidence is checked by a policy, not here.
    let evidence = String::from_utf8_lossy(&json).find("\"dealerEvidence\"").unwrap();
    let acceptances = String::from_utf8_lossy(&json).find("\"acceptances\"").unwrap();
    let mut start = [0; 2];
    getrandom::fill(&mut start).unwrap();
    let start = usize::from(u16::from_le_bytes(start)) % 307;
    for index in (start..json.len()).step_by(307) {
        if (evidence..acceptances).contains(&index) {
            continue;
        }
        let mut damaged = json.clone();
        // Upper and lower case of hexadecimal digits are the same number, so it is another digit.
        damaged[index] = if damaged[index] == b'7' { b'3' } else { b'7' };
        let refused = Record::from_json(&damaged).map_or(true, |record| record.check().is_err());
        assert!(refused, "byte {index}, counted from {start}");
    }
}
