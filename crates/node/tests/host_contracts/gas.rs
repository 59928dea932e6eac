//! What the main calls cost, compared with the committed table `contracts/snapshots/gas.txt`.
//!
//! Each figure is the gas of one transaction without what every transaction pays: 21,000 and its data. So a figure depends
//! on the contracts and the compiler and on nothing else; the data hold hashes, whose bytes differ from chain to chain.
//! With `CIPHERLOOM_WRITE_SNAPSHOTS=1` the test writes the table and does not compare.

use std::fmt::Write as _;

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use cipherloom_contracts::{
    bindings::{
        ACL, FHEVMExecutor as Executor, GatewayContract, IProtocolConfig::KmsThresholds, InputVerifier, KMSVerifier, ProtocolConfig,
    },
    deployment_steps, development,
};
use cipherloom_node::{DevChain, DevChainConfig};
use cipherloom_primitives::{FheType, Handle, input};

use crate::stage::{LATEST, Stage, sign};

const UINT64: FheType = FheType::Uint64;

/// Gas of the transactions so far.
struct Table {
    stage: Stage,
    lines: Vec<(String, u64)>,
}

/// What a transaction pays before anything runs: its base, and its data (EIP-2028).
fn intrinsic_gas(data: &[u8]) -> u64 {
    let zeros = data.iter().filter(|byte| **byte == 0).count() as u64;
    21_000 + 4 * zeros + 16 * (data.len() as u64 - zeros)
}

impl Table {
    /// The account that calls the executor: handles are allowed to it.
    fn caller(&self) -> Address {
        self.stage.user(1)
    }

    /// Sends a call and notes its gas.
    fn measure(&mut self, name: &str, from: Address, to: Address, call: &impl SolCall) {
        let data = Bytes::from(call.abi_encode());
        let request = TransactionRequest {
            from: Some(from),
            to: Some(to.into()),
            input: data.clone().into(),
            gas: Some(10_000_000),
            ..Default::default()
        };
        let hash = self.stage.chain.send_transaction(request).unwrap();
        let (block, index) = self.stage.chain.mined_transaction(&hash).unwrap().unwrap();
        let receipt = &block.receipts[index];
        assert!(receipt.is_success(), "{name} failed");
        self.lines.push((name.to_owned(), receipt.gas_used - intrinsic_gas(&data)));
    }

    fn operation(&mut self, name: &str, call: &impl SolCall) {
        let (from, executor) = (self.caller(), self.stage.host.executor);
        self.measure(&format!("FHEVMExecutor.{name}"), from, executor, call);
    }

    /// A value that the caller may use for ever.
    fn value(&self, ty: FheType) -> B256 {
        let mut script = self.stage.script();
        let value = script.value(1, ty);
        for account in [self.caller(), self.stage.batch] {
            script.call(self.stage.host.acl, "allow(bytes32,address)", &[value, account.into()]);
        }
        self.stage.mine_handle(&script).as_b256()
    }

    fn operations(&mut self) {
        let (a, b, condition) = (self.value(UINT64), self.value(UINT64), self.value(FheType::Bool));
        let (encrypted, scalar) = ([0].into(), [1].into());
        let seven = B256::from(U256::from(7));
        let add = |rhs, scalar_byte| Executor::fheAddCall {
            lhs: a,
            rhs,
            scalarByte: scalar_byte,
        };
        self.operation("fheAdd, euint64 and euint64", &add(b, encrypted));
        self.operation("fheAdd, euint64 and plaintext", &add(seven, scalar));
        let call = Executor::fheMulCall {
            lhs: a,
            rhs: b,
            scalarByte: encrypted,
        };
        self.operation("fheMul, euint64 and euint64", &call);
        let call = Executor::fheDivCall {
            lhs: a,
            rhs: seven,
            scalarByte: scalar,
        };
        self.operation("fheDiv, euint64 and plaintext", &call);
        let call = Executor::fheLeCall {
            lhs: a,
            rhs: b,
            scalarByte: encrypted,
        };
        self.operation("fheLe, euint64 and euint64", &call);
        self.operation("fheNot, ebool", &Executor::fheNotCall { ct: condition });
        let call = Executor::fheIfThenElseCall {
            control: condition,
            ifTrue: a,
            ifFalse: b,
        };
        self.operation("fheIfThenElse, euint64", &call);
        self.operation("cast, euint64 to euint128", &Executor::castCall { ct: a, toType: 6 });
        let call = Executor::trivialEncryptCall {
            pt: U256::from(7),
            toType: UINT64.id(),
        };
        self.operation("trivialEncrypt, euint64", &call);
        self.operation("fheRand, the first", &Executor::fheRandCall { randType: UINT64.id() });
        self.operation("fheRand, any later one", &Executor::fheRandCall { randType: UINT64.id() });
        let values: Vec<B256> = (0..10).map(|_| self.value(UINT64)).collect();
        let call = Executor::fheSumCall {
            values: values.clone(),
            fheType: UINT64.id(),
        };
        self.operation("fheSum, 10 euint64", &call);
        let call = Executor::fheIsInCall {
            value: a,
            values,
            fheType: UINT64.id(),
        };
        self.operation("fheIsIn, euint64 among 10", &call);
        let call = Executor::fheMulDivCall {
            factor1: a,
            factor2: b,
            divisor: seven,
            scalarByte: scalar,
        };
        self.operation("fheMulDiv, euint64, euint64 and plaintext", &call);
    }

    fn inputs(&mut self) {
        for (coprocessors, threshold) in [(1, 1), (3, 2)] {
            let (verifier, user) = (self.stage.host.input_verifier, self.stage.user(2));
            let context = InputVerifier::defineNewContextCall {
                newSigners: self.stage.coprocessors[..coprocessors].iter().map(|key| key.address()).collect(),
                newThreshold: U256::from(threshold),
            };
            self.stage.administer(verifier, &context);
            let handles = input::input_handles(b"an encrypted list", &[UINT64], self.stage.host.acl, 31337).unwrap();
            let digest = development::signing_domains().input_digest(&handles, user, self.caller(), &[0]);
            let mut proof = vec![1, threshold];
            proof.extend_from_slice(handles[0].as_slice());
            for key in &self.stage.coprocessors[..usize::from(threshold)] {
                proof.extend_from_slice(&sign(key, digest));
            }
            proof.push(0);
            let call = Executor::verifyInputCall {
                inputHandle: handles[0].as_b256(),
                userAddress: user,
                inputProof: proof.into(),
                inputType: UINT64.id(),
            };
            self.operation(&format!("verifyInput, {threshold} of {coprocessors} coprocessors"), &call);
        }
    }

    fn access(&mut self) {
        let (acl, caller) = (self.stage.host.acl, self.caller());
        let handle = self.value(UINT64);
        let account = self.stage.user(3);
        self.measure("ACL.allow", caller, acl, &ACL::allowCall { handle, account });
        self.measure("ACL.allow, again", caller, acl, &ACL::allowCall { handle, account });
        self.measure("ACL.allowTransient", caller, acl, &ACL::allowTransientCall { handle, account });
        let call = ACL::allowForDecryptionCall { handlesList: vec![handle] };
        self.measure("ACL.allowForDecryption, 1 handle", caller, acl, &call);
        let call = ACL::delegateForUserDecryptionCall {
            delegate: account,
            contractAddress: self.stage.batch,
            expirationDate: u64::MAX,
        };
        self.measure("ACL.delegateForUserDecryption", caller, acl, &call);
        let call = ACL::revokeDelegationForUserDecryptionCall {
            delegate: account,
            contractAddress: self.stage.batch,
        };
        self.measure("ACL.revokeDelegationForUserDecryption", caller, acl, &call);
        let call = ACL::invalidateDecryptionSignaturesBeforeCall { timestamp: U256::ZERO };
        self.measure("ACL.invalidateDecryptionSignaturesBefore", caller, acl, &call);
    }

    fn decryptions(&mut self) {
        let (caller, host) = (self.caller(), self.stage.host);
        for (nodes, threshold) in [(1, 1), (4, 3)] {
            let context = ProtocolConfig::defineNewKmsContextCall {
                signers: self.stage.kms[..nodes].iter().map(|key| key.address()).collect(),
                thresholds: KmsThresholds {
                    publicDecryption: U256::from(threshold),
                    userDecryption: U256::ONE,
                    mpc: U256::ZERO,
                },
            };
            self.stage.administer(host.protocol_config, &context);
            let mut script = self.stage.script();
            let value = script.value(nodes as u64, UINT64);
            script.call(host.acl, "allowForDecryption(bytes32[])", &[32.into(), 1.into(), value]);
            let handle = self.stage.mine_handle(&script);
            let values = U256::from(7).to_be_bytes_vec();
            let digest = development::signing_domains().public_decryption_digest(&[handle], &values, &[]);
            let keys = &self.stage.kms[..usize::from(threshold)];
            let signatures: Vec<Bytes> = keys.iter().map(|key| sign(key, digest).into()).collect();
            let shown = format!("{threshold} of {nodes} nodes");
            let call = KMSVerifier::verifyDecryptionEIP712KMSSignaturesCall {
                handlesList: vec![handle.as_b256()],
                decryptedResult: values.clone().into(),
                decryptionProof: [vec![threshold], signatures.concat()].concat().into(),
            };
            self.measure(
                &format!("KMSVerifier.verifyDecryptionEIP712KMSSignatures, {shown}"),
                caller,
                host.kms_verifier,
                &call,
            );
            self.callback(&shown, handle, &values, signatures);
        }
    }

    fn callback(&mut self, shown: &str, handle: Handle, values: &[u8], signatures: Vec<Bytes>) {
        let gateway = self.stage.host.gateway_contract;
        let now = self.stage.chain.block(LATEST).unwrap().unwrap().header.timestamp;
        let request_id = self.stage.read(gateway, &GatewayContract::getCounterCall {});
        let call = GatewayContract::requestDecryptionCall {
            ctsHandles: vec![handle.as_b256()],
            callbackSelector: [1, 2, 3, 4].into(),
            msgValue: U256::ZERO,
            maxTimestamp: U256::from(now + 3600),
            passSignaturesToCaller: false,
        };
        // The caller has no code, so its callback costs nothing.
        self.measure(
            &format!("GatewayContract.requestDecryption, before {shown} sign"),
            self.caller(),
            gateway,
            &call,
        );
        let call = GatewayContract::fulfillRequestCall {
            requestID: request_id,
            decryptedCts: values.to_vec().into(),
            signatures,
        };
        self.measure(
            &format!("GatewayContract.fulfillRequest, {shown}"),
            development::DEPLOYER,
            gateway,
            &call,
        );
    }

    fn text(&self) -> String {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut text = String::from("gas without the transaction's own 21,000 and its data\n\n");
        for (name, gas) in &self.lines {
            writeln!(text, "{name:width$} {gas:>8}").unwrap();
        }
        text
    }
}

/// Gas of all transactions of a deployment, their own included.
fn deployment_gas() -> u64 {
    let chain = DevChain::new(DevChainConfig::default()).unwrap();
    let set = || cipherloom_contracts::SignerSet::single(Address::repeat_byte(1));
    let mut total = 0;
    for step in deployment_steps(&development::deployment(set(), set())) {
        let request = TransactionRequest {
            from: Some(development::DEPLOYER),
            to: step.to.map(Into::into),
            input: step.data.into(),
            ..Default::default()
        };
        let hash = chain.send_transaction(request).unwrap();
        let (block, index) = chain.mined_transaction(&hash).unwrap().unwrap();
        total += block.receipts[index].gas_used;
    }
    total
}

#[test]
fn the_main_calls_cost_what_the_committed_table_says() {
    let mut table = Table {
        stage: Stage::with_signers(4, 4, 1),
        lines: Vec::new(),
    };
    table.operations();
    table.inputs();
    table.access();
    table.decryptions();
    table.lines.push(("deployment, all transactions".to_owned(), deployment_gas()));
    let found = table.text();
    let path = format!("{}/../../contracts/snapshots/gas.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("CIPHERLOOM_WRITE_SNAPSHOTS").is_some() {
        return std::fs::write(path, found).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        found, committed,
        "the gas of the contracts has changed; to accept it, run this test with CIPHERLOOM_WRITE_SNAPSHOTS=1 and commit the table"
    );
}
