//! `UploadInputs`.

use alloy::primitives::keccak256;
use cipherloom_primitives::{Address, FheType, Handle, U256, eip712::recover_signer, generation_0_6::VerifiedList};
use cipherloom_rpc::fhevm::coprocessor::{InputCiphertextResponse, InputToUpload, InputUploadBatch};
use tonic::{Code, Status};

use crate::fixture::{
    ACL, Bench, CHAIN, CONTRACT, INPUT_VERIFIER, Kind, USER, add, answer, clear_keys, on_both_databases, signer, toy_keys, with_key,
};

on_both_databases!(
    handles_and_signature_are_those_of_the_generation,
    values_can_be_computed_with_and_fetched_under_their_handles,
    uploading_again_gives_the_same_answer,
    a_proof_for_another_user_is_refused,
    one_bad_list_refuses_the_batch_with_nothing_stored,
    limits_are_kept,
);

async fn upload(bench: &Bench, input_ciphertexts: Vec<InputToUpload>) -> Result<Vec<InputCiphertextResponse>, Status> {
    let request = with_key(&bench.key, InputUploadBatch { input_ciphertexts });
    Ok(answer(bench.client().upload_inputs(request).await)?.upload_responses)
}

async fn handles_and_signature_are_those_of_the_generation(kind: Kind) {
    let bench = Bench::new(kind).await;
    let types = [FheType::Bool, FheType::Uint64, FheType::Address];
    let input = bench.list(&types.map(|ty| (ty, 1)));
    let found = upload(&bench, vec![input.clone()]).await.unwrap().remove(0);
    let list = VerifiedList::new(&input.input_payload, &types, CHAIN, ACL, USER, CONTRACT).unwrap();
    assert_eq!(found.hash_of_ciphertext, keccak256(&input.input_payload).as_slice());
    assert_eq!(found.acl_address, ACL.to_string());
    assert_eq!(found.contract_address, CONTRACT.to_string());
    assert_eq!(found.user_address, USER.to_string());
    assert_eq!(found.signer_address, signer().address().to_string());
    for (index, (handle, ty)) in found.input_handles.iter().zip(types).enumerate() {
        assert_eq!(handle.ciphertext_type, i32::from(ty.id()));
        assert_eq!(handle.handle, list.handles[index].as_slice());
        assert_eq!(handle.handle[29..], [u8::try_from(index).unwrap(), ty.id(), 0]);
    }
    let signed = recover_signer(list.digest(CHAIN, INPUT_VERIFIER), &found.eip712_signature);
    assert_eq!(signed, Some(signer().address()));
}

async fn values_can_be_computed_with_and_fetched_under_their_handles(kind: Kind) {
    let bench = Bench::new(kind).await;
    compute_with_inputs(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_real_tfhe_proofs_are_checked_and_values_computed_with() {
    let bench = Bench::with(Kind::Sqlite, toy_keys(), |_| {}).await;
    compute_with_inputs(&bench).await;
    let mut forged = bench.list(&[(FheType::Uint8, 1)]);
    forged.user_address = Address::repeat_byte(9).to_string();
    let status = upload(&bench, vec![forged]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().starts_with("error deserializing ciphertext: "),
        "{}",
        status.message()
    );
}

async fn compute_with_inputs(bench: &Bench) {
    let input = bench.list(&[(FheType::Uint8, 30), (FheType::Uint8, 12)]);
    let answers = upload(bench, vec![input]).await.unwrap();
    let [a, b] = [0, 1].map(|index| answers[0].input_handles[index].handle.clone());
    // Before anybody used it.
    assert_eq!(bench.value(&b).await, Some(U256::from(12)));
    bench.schedule(&[add(b"sum", &a, &b)]).await.unwrap();
    bench.compute_all().await;
    assert_eq!(bench.value(b"sum").await, Some(U256::from(42)));
    assert_eq!(bench.value(&a).await, Some(U256::from(30)));
}

async fn uploading_again_gives_the_same_answer(kind: Kind) {
    let bench = Bench::new(kind).await;
    let input = bench.list(&[(FheType::Uint8, 30)]);
    let first = upload(&bench, vec![input.clone()]).await.unwrap();
    let twice = upload(&bench, vec![input.clone(), input]).await.unwrap();
    assert_eq!(twice, [first.clone(), first].concat());
}

async fn a_proof_for_another_user_is_refused(kind: Kind) {
    let bench = Bench::new(kind).await;
    let good = bench.list(&[(FheType::Uint8, 30)]);
    upload(&bench, vec![good.clone()]).await.unwrap();
    for change in [
        |input: &mut InputToUpload| input.user_address = Address::repeat_byte(9).to_string(),
        |input: &mut InputToUpload| input.contract_address = Address::repeat_byte(9).to_string(),
    ] {
        let mut other = good.clone();
        change(&mut other);
        let status = upload(&bench, vec![other]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().starts_with("error deserializing ciphertext: input blob 0: "),
            "{}",
            status.message()
        );
    }
}

async fn one_bad_list_refuses_the_batch_with_nothing_stored(kind: Kind) {
    let bench = Bench::new(kind).await;
    let good = bench.list(&[(FheType::Uint8, 30)]);
    let name = VerifiedList::new(&good.input_payload, &[FheType::Uint8], CHAIN, ACL, USER, CONTRACT)
        .unwrap()
        .handles[0];
    for (payload, address, text) in [
        (Vec::new(), USER.to_string(), "error deserializing ciphertext: input blob 1"),
        (vec![7; 1000], USER.to_string(), "error deserializing ciphertext: input blob 1"),
        (vec![7; (1 << 20) + 1], USER.to_string(), "input blob 1 has 1048577 bytes"),
        (
            good.input_payload.to_vec(),
            "0x12".to_owned(),
            "Cannot parse ethereum address: \"0x12\"",
        ),
        (good.input_payload.to_vec(), "x".repeat(5000), "Cannot parse ethereum address: \"xx"),
    ] {
        let bad = InputToUpload {
            input_payload: payload.into(),
            contract_address: CONTRACT.to_string(),
            user_address: address,
            signatures: Vec::new(),
        };
        let status = upload(&bench, vec![good.clone(), bad]).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{}", status.message());
        assert!(status.message().len() < 400);
        assert_eq!(bench.value(name.as_slice()).await, None);
    }
}

async fn limits_are_kept(kind: Kind) {
    let bench = Bench::with(kind, clear_keys(), |config| {
        config.limits.compact_inputs = 2;
        config.limits.handles_per_input = 3;
    })
    .await;
    let one = bench.list(&[(FheType::Uint8, 30)]);
    upload(&bench, vec![one.clone(); 2]).await.unwrap();
    let status = upload(&bench, vec![one; 3]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "More than maximum input blobs uploaded, maximum allowed: 2, uploaded: 3"
    );
    let long = bench.list(&[(FheType::Uint8, 30); 4]);
    let name = VerifiedList::new(&long.input_payload, &[FheType::Uint8; 4], CHAIN, ACL, USER, CONTRACT)
        .unwrap()
        .handles[0];
    let status = upload(&bench, vec![long]).await.unwrap_err();
    assert!(
        status.message().starts_with("Input blob contains too many ciphertexts, "),
        "{}",
        status.message()
    );
    assert_eq!(bench.value(name.as_slice()).await, None);
    let handle = Handle::try_from(name.as_slice()).unwrap();
    assert_ne!(handle.chain_id(), CHAIN);
}
