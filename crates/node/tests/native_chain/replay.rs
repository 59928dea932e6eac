//! A hundred blocks of everything, executed again from the beginning.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::SolCall;
use cipherloom_contracts::bindings::{FHEVMExecutor as Executor, ValidatorSet as Contract};
use cipherloom_contracts::development;
use cipherloom_node::native::VALIDATOR_SET;
use cipherloom_primitives::input::InputMetadata;
use cipherloom_primitives::native::native_input_proof;
use cipherloom_primitives::{FheType, Operation};

use crate::hashing::ToyInputs;
use crate::program::{Arg, Program, byte};
use crate::world::{BATCH, CHAIN, LATEST, Node, World};

const BLOCKS: u64 = 100;
const USER: Address = Address::repeat_byte(0x05);

/// Adds the admission of an encrypted 64-bit number to a script.
pub(crate) fn admit_input(program: &mut Program, seed: u8) -> Arg {
    let context = InputMetadata {
        contract: BATCH,
        user: USER,
        acl: development::addresses().acl,
        chain_id: CHAIN,
    };
    let types = [FheType::Uint64, FheType::Bool];
    let list = ToyInputs::list(&types, seed, &context);
    let (handles, proof) = native_input_proof(&list, &types, context.acl, CHAIN).unwrap();
    let call = Executor::verifyInputCall {
        inputHandle: handles[0].as_b256(),
        userAddress: USER,
        inputProof: proof.into(),
        inputType: handles[0].fhe_type().id(),
    };
    program.call(development::addresses().executor, &call.abi_encode(), &[])
}

/// Numbers that follow from a seed.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = U256::from_be_bytes(keccak256(self.0.to_be_bytes()).0).wrapping_to();
        self.0 % bound
    }
}

/// What users send before one block.
pub(crate) fn traffic(world: &World, node: &Node, numbers: &mut Numbers) -> Vec<B256> {
    let count = numbers.below(4);
    let mut sent = Vec::new();
    for _ in 0..count {
        let user = usize::try_from(numbers.below(4)).unwrap();
        let slot = numbers.below(6);
        let mut program = Program::new();
        sent.push(match numbers.below(7) {
            0 => world.send(node, user, Address::repeat_byte(u8::try_from(slot).unwrap()), Bytes::new()),
            1 => world.send(
                node,
                user,
                crate::world::STORE,
                [B256::from(U256::from(slot)), B256::ZERO].concat().into(),
            ),
            2 => {
                // Sometimes the owner, sometimes somebody who may not; the same power again changes nothing.
                let call = Contract::setPowerCall {
                    account: world.keys[0].address(),
                    power: 1 + numbers.below(2),
                };
                world.send(node, user, VALIDATOR_SET, call.abi_encode().into())
            }
            3 => {
                let input = admit_input(&mut program, u8::try_from(numbers.below(200)).unwrap());
                program.store(slot, input);
                program.keep(input);
                world.run(node, user, &program)
            }
            4 => {
                // Of another user, or malformed: refused, and nothing of it in state.
                let value = program.value(slot, FheType::Uint8);
                program.store(slot, value);
                program.call(development::addresses().executor, b"none", &[]);
                world.run(node, user, &program)
            }
            5 => {
                let value = program.value(numbers.below(1000), FheType::Uint64);
                program.keep(value);
                program.store(slot, value);
                world.run(node, user, &program)
            }
            _ => {
                let old = node.chain.storage(crate::world::STORE, U256::from(slot), LATEST).unwrap();
                let left = program.value(numbers.below(1000), FheType::Uint64);
                let sum = program.operation(Operation::Add, &[left, Arg::Word(old.into()), byte(0)]);
                program.keep(sum);
                program.store(slot, sum);
                world.run(node, user, &program)
            }
        });
    }
    sent
}

#[tokio::test]
async fn a_hundred_blocks_of_mixed_traffic_lead_to_the_same_state_again() {
    let seed = 20_260;
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (world.node_in(dir.path()), world.node());
    let late = world.node().without_executor();
    let mut numbers = Numbers(seed);
    let (mut succeeded, mut failed, mut ciphertexts) = (0, 0, 0);
    for height in 1..=BLOCKS {
        let sent = traffic(&world, &one, &mut numbers);
        let decided = world.decide(&[&one, &other]).await;
        late.chain
            .apply(decided)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}, block {height}: {error}"));
        for hash in sent {
            let done = one.succeeded(hash);
            if done {
                succeeded += 1
            } else {
                failed += 1
            };
        }
        ciphertexts += other
            .executor
            .asked
            .lock()
            .unwrap()
            .drain(..)
            .map(|work| work.outputs.len())
            .sum::<usize>();
        assert_eq!(
            (one.hash(), other.hash()),
            (late.hash(), late.hash()),
            "seed {seed}, block {height}"
        );
    }
    assert!(
        succeeded > 60 && failed > 10 && ciphertexts > 30,
        "seed {seed}: {succeeded} {failed} {ciphertexts}"
    );
    let root = one.chain.block(LATEST).unwrap().unwrap().header.state_root;
    drop(one);
    let again = world.node_in(dir.path()).without_executor();
    assert_eq!(again.height(), BLOCKS);
    assert_eq!(again.chain.block(LATEST).unwrap().unwrap().header.state_root, root);
    assert_eq!(again.hash(), late.hash());
}
