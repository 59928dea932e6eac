//! Messages that no honest client sends. The server refuses them and goes on.

use bytes::{Buf as _, BufMut as _, Bytes};
use cipherloom_primitives::{FheType, Handle};
use cipherloom_rpc::fhevm::{
    common::FheOperation,
    coprocessor::{
        AsyncComputeRequest, GetCiphertextBatch, InputToUpload, InputUploadBatch, TrivialEncryptBatch, TrivialEncryptRequestSingle,
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use prost::Message;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use crate::fixture::{Bench, CHAIN, Kind, chain_handle, computation, handle_operand, scalar, trivial, with_key};

const METHODS: [&str; 4] = [
    "/fhevm.coprocessor.FhevmCoprocessor/AsyncCompute",
    "/fhevm.coprocessor.FhevmCoprocessor/UploadInputs",
    "/fhevm.coprocessor.FhevmCoprocessor/GetCiphertexts",
    "/fhevm.coprocessor.FhevmCoprocessor/TrivialEncryptCiphertexts",
];

/// How many messages of each method are sent.
const MESSAGES: usize = 150;

const SEED: [u8; 32] = [0x5e; 32];

/// Sends and receives bytes as they are.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let own = Handle::named(b"a", CHAIN, FheType::Uint8).as_slice().to_vec();
    let input = Handle::input(Default::default(), 0, CHAIN, FheType::Uint8)
        .unwrap()
        .as_slice()
        .to_vec();
    prop_oneof![
        8 => (b'a'..b'h').prop_map(|letter| vec![letter]),
        2 => (0u8..4).prop_map(|number| chain_handle(number, FheType::Uint8).to_vec()),
        1 => Just(own),
        1 => Just(input),
        2 => proptest::collection::vec(any::<u8>(), 0..300),
    ]
}

fn asynchronous() -> impl Strategy<Value = Vec<u8>> {
    let operand = prop_oneof![
        2 => name().prop_map(|name| handle_operand(&name)),
        2 => (0u64..12).prop_map(scalar),
        1 => any::<u64>().prop_map(scalar),
        1 => Just(Default::default()),
    ];
    let any_computation = (0i32..34, name(), proptest::collection::vec(operand, 0..4)).prop_map(|(operation, output, inputs)| {
        let mut computation = computation(FheOperation::FheAdd, &output, inputs);
        computation.operation = operation;
        computation
    });
    let computation = prop_oneof![
        any_computation,
        (name(), any::<u64>()).prop_map(|(output, value)| trivial(&output, value, FheType::Uint8)),
    ];
    proptest::collection::vec(computation, 0..6).prop_map(|computations| AsyncComputeRequest { computations }.encode_to_vec())
}

fn uploads() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![Just("0x7070707070707070707070707070707070707070".to_owned()), ".{0,40}"];
    let input =
        (proptest::collection::vec(any::<u8>(), 0..200), text.clone(), text).prop_map(|(payload, contract_address, user_address)| {
            InputToUpload {
                input_payload: payload.into(),
                contract_address,
                user_address,
                signatures: vec![Bytes::from_static(&[1; 65])],
            }
        });
    proptest::collection::vec(input, 0..12).prop_map(|input_ciphertexts| InputUploadBatch { input_ciphertexts }.encode_to_vec())
}

fn handles() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(name().prop_map(Bytes::from), 0..12).prop_map(|handles| GetCiphertextBatch { handles }.encode_to_vec())
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    let value = (name(), proptest::collection::vec(any::<u8>(), 0..40), -1i32..14).prop_map(|(handle, be_value, output_type)| {
        TrivialEncryptRequestSingle {
            handle: handle.into(),
            be_value: be_value.into(),
            output_type,
        }
    });
    proptest::collection::vec(value, 0..5).prop_map(|values| TrivialEncryptBatch { values }.encode_to_vec())
}

/// A message of any method, as it is or damaged.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![4 => asynchronous(), 2 => uploads(), 2 => handles(), 2 => values()];
    let noise = proptest::collection::vec(any::<u8>(), 0..100);
    let damaged =
        (whole, proptest::option::weighted(0.3, (any::<u16>(), any::<u8>())), any::<bool>()).prop_map(|(mut bytes, change, cut)| {
            if let (Some((place, byte)), false) = (change, bytes.is_empty()) {
                let place = usize::from(place) % bytes.len();
                bytes[place] = byte;
                if cut {
                    bytes.truncate(place);
                }
            }
            bytes
        });
    prop_oneof![9 => damaged, 1 => noise]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_is_answered_or_refused_and_never_breaks_the_server() {
    let bench = Bench::new(Kind::Sqlite).await;
    println!("seed {SEED:?}");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut codes = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..MESSAGES * METHODS.len() {
        let message = messages().new_tree(&mut runner).unwrap().current();
        let mut client = tonic::client::Grpc::new(bench.channel.clone());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static(METHODS[number % METHODS.len()]);
        let answer = client
            .unary(with_key(&bench.key, Bytes::from(message.clone())), path, RawCodec)
            .await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        let expected = matches!(
            code,
            Code::Ok | Code::InvalidArgument | Code::NotFound | Code::ResourceExhausted | Code::FailedPrecondition
        );
        assert!(expected, "{code:?} for message {number}: {message:?}");
        *codes.entry(format!("{code:?}")).or_default() += 1;
    }
    assert!(codes.len() >= 3, "the messages are of one kind: {codes:?}");
    // What was accepted is computed, and nothing that was accepted fails.
    bench.compute_all().await;
    assert!(bench.fetch(&[]).await.is_ok());
}
