//! What users of the contracts do, one transaction after the other.

use std::path::Path;

use alloy::{
    primitives::{Address, Bytes},
    sol,
    sol_types::{SolCall, SolValue},
};
use anyhow::{Context, Result};
use cipherloom_primitives::FheType;
use serde::Deserialize;

use super::{
    Sample,
    chain::{Chain, Input},
};
use crate::token::ConfidentialToken;

const TOKEN: &str = include_str!("../../../../../examples/confidential-token/artifacts/ConfidentialToken.json");
const AUCTION: &str = include_str!("../../../../../examples/auction/artifacts/SealedBidAuction.json");
const VOTING: &str = include_str!("../../../../../examples/voting/artifacts/SecretBallot.json");

/// How many options the vote has.
const OPTIONS: u64 = 4;

/// How long auction and vote go on, in seconds.
const DURATION: u64 = 3600;

sol! {
    interface TokenOwner {
        function mintEncrypted(address to, bytes32 amount, bytes calldata inputProof) external;
        function approve(address spender, bytes32 amount, bytes calldata inputProof) external;
        function transferFrom(address from, address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32 moved);
    }

    interface Auction {
        function bid(bytes32 amount, bytes calldata inputProof) external;
        function withdraw() external;
        function collect() external;
    }

    interface Ballot {
        function register(address voter, uint32 weight) external;
        function vote(bytes32 choice, bytes calldata inputProof) external;
    }

    interface Published {
        function mint(address to, bytes32 amount, bytes calldata inputProof) external;
        function burn(bytes32 amount, bytes calldata inputProof) external;
        function setOperator(address operator, uint48 until) external;
        function confidentialTransfer(address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function confidentialTransferFrom(address from, address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32);
        function confidentialTransferAndCall(address to, bytes32 amount, bytes calldata inputProof, bytes calldata data) external returns (bytes32);
    }
}

#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

fn bytecode(artifact: &str) -> Result<Bytes> {
    let artifact: Artifact = serde_json::from_str(artifact).context("an artifact is JSON with a `bytecode`")?;
    Ok(artifact.bytecode)
}

/// One contract on the chain, and what was recorded of it.
struct Stage<'a> {
    chain: &'a Chain,
    name: &'static str,
    contract: Address,
    samples: Vec<Sample>,
}

impl<'a> Stage<'a> {
    const fn new(chain: &'a Chain, name: &'static str, contract: Address) -> Self {
        Self {
            chain,
            name,
            contract,
            samples: Vec::new(),
        }
    }

    /// Sends a transaction and keeps what it asks for.
    fn record<C: SolCall>(&mut self, transaction: &'static str, from: Address, call: &C) -> Result<()> {
        let recording = self
            .chain
            .call(from, self.contract, call)
            .with_context(|| format!("{}: {transaction}", self.name))?;
        self.samples.push(Sample {
            contract: self.name,
            transaction,
            recording,
        });
        Ok(())
    }

    /// Sends a transaction that nobody counts.
    fn prepare<C: SolCall>(&self, from: Address, call: &C) -> Result<()> {
        self.chain.call(from, self.contract, call).map(drop)
    }

    fn input(&self, user: Address, ty: FheType) -> Result<Input> {
        self.chain.input(user, self.contract, ty)
    }
}

/// The example contracts.
///
/// # Errors
/// If a contract refuses a transaction.
pub(super) fn examples(chain: &Chain) -> Result<Vec<Sample>> {
    let (token, mut samples) = token(chain)?;
    samples.extend(auction(chain, token)?);
    samples.extend(vote(chain)?);
    Ok(samples)
}

fn token(chain: &Chain) -> Result<(Address, Vec<Sample>)> {
    let [owner, alice, bob] = people(chain)?;
    let contract = chain.deploy(owner, &bytecode(TOKEN)?, &[])?;
    let mut stage = Stage::new(chain, "token", contract);
    let mint = |to| ConfidentialToken::mintCall { to, amount: 1_000_000 };
    stage.record("mint a public amount, the first time", owner, &mint(alice))?;
    stage.record("mint a public amount", owner, &mint(alice))?;
    let Input { handle, proof } = stage.input(owner, FheType::Uint64)?;
    let mint_encrypted = TokenOwner::mintEncryptedCall {
        to: alice,
        amount: handle,
        inputProof: proof,
    };
    stage.record("mint a secret amount", owner, &mint_encrypted)?;
    for transaction in ["transfer to a new account", "transfer"] {
        let Input { handle, proof } = stage.input(alice, FheType::Uint64)?;
        let transfer = ConfidentialToken::transferCall {
            to: bob,
            amount: handle,
            inputProof: proof,
        };
        stage.record(transaction, alice, &transfer)?;
    }
    let Input { handle, proof } = stage.input(alice, FheType::Uint64)?;
    let approve = TokenOwner::approveCall {
        spender: bob,
        amount: handle,
        inputProof: proof,
    };
    stage.record("approve", alice, &approve)?;
    let Input { handle, proof } = stage.input(bob, FheType::Uint64)?;
    let transfer_from = TokenOwner::transferFromCall {
        from: alice,
        to: bob,
        amount: handle,
        inputProof: proof,
    };
    stage.record("transferFrom", bob, &transfer_from)?;
    Ok((contract, stage.samples))
}

fn auction(chain: &Chain, token: Address) -> Result<Vec<Sample>> {
    let [seller, alice, bob] = people(chain)?;
    let arguments = (token, seller, DURATION).abi_encode();
    let contract = chain.deploy(seller, &bytecode(AUCTION)?, &arguments)?;
    let mut stage = Stage::new(chain, "auction", contract);
    for bidder in [alice, bob] {
        let Input { handle, proof } = chain.input(bidder, token, FheType::Uint64)?;
        let approve = TokenOwner::approveCall {
            spender: contract,
            amount: handle,
            inputProof: proof,
        };
        chain.call(bidder, token, &approve)?;
    }
    for (transaction, bidder) in [("first bid", alice), ("bid of another", bob), ("raise of a bid", alice)] {
        let Input { handle, proof } = stage.input(bidder, FheType::Uint64)?;
        let bid = Auction::bidCall {
            amount: handle,
            inputProof: proof,
        };
        stage.record(transaction, bidder, &bid)?;
    }
    chain.pass(DURATION)?;
    stage.record("withdraw", bob, &Auction::withdrawCall {})?;
    stage.record("collect", seller, &Auction::collectCall {})?;
    Ok(stage.samples)
}

fn vote(chain: &Chain) -> Result<Vec<Sample>> {
    let [chair, alice, bob] = people(chain)?;
    let contract = chain.deploy(chair, &bytecode(VOTING)?, &(OPTIONS, DURATION).abi_encode())?;
    let mut stage = Stage::new(chain, "vote", contract);
    for voter in [alice, bob] {
        stage.prepare(chair, &Ballot::registerCall { voter, weight: 3 })?;
    }
    let Input { handle, proof } = stage.input(alice, FheType::Uint8)?;
    let vote = Ballot::voteCall {
        choice: handle,
        inputProof: proof,
    };
    stage.record("vote among four options", alice, &vote)?;
    Ok(stage.samples)
}

/// The published token, from the folder that `cargo xtask rule-statistics` compiles it into.
///
/// # Errors
/// If an artifact cannot be read, or a contract refuses a transaction.
pub(super) fn published_token(chain: &Chain, folder: &Path) -> Result<Vec<Sample>> {
    let artifact = |name: &str| {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        bytecode(&text)
    };
    let [owner, alice, bob] = people(chain)?;
    let receiver = chain.deploy(owner, &artifact("Receiver.json")?, &[])?;
    let contract = chain.deploy(owner, &artifact("PublishedToken.json")?, &[])?;
    let mut stage = Stage::new(chain, "ERC7984", contract);
    for transaction in ["mint, the first time", "mint"] {
        let Input { handle, proof } = stage.input(owner, FheType::Uint64)?;
        let mint = Published::mintCall {
            to: alice,
            amount: handle,
            inputProof: proof,
        };
        stage.record(transaction, owner, &mint)?;
    }
    for transaction in ["transfer to a new account", "transfer"] {
        let Input { handle, proof } = stage.input(alice, FheType::Uint64)?;
        let transfer = Published::confidentialTransferCall {
            to: bob,
            amount: handle,
            inputProof: proof,
        };
        stage.record(transaction, alice, &transfer)?;
    }
    let until = alloy::primitives::Uint::<48, 1>::MAX;
    stage.prepare(alice, &Published::setOperatorCall { operator: bob, until })?;
    let Input { handle, proof } = stage.input(bob, FheType::Uint64)?;
    let transfer_from = Published::confidentialTransferFromCall {
        from: alice,
        to: bob,
        amount: handle,
        inputProof: proof,
    };
    stage.record("transferFrom by an operator", bob, &transfer_from)?;
    let Input { handle, proof } = stage.input(alice, FheType::Uint64)?;
    let and_call = Published::confidentialTransferAndCallCall {
        to: receiver,
        amount: handle,
        inputProof: proof,
        data: Bytes::new(),
    };
    stage.record("transferAndCall", alice, &and_call)?;
    let Input { handle, proof } = stage.input(alice, FheType::Uint64)?;
    let burn = Published::burnCall {
        amount: handle,
        inputProof: proof,
    };
    stage.record("burn", alice, &burn)?;
    Ok(stage.samples)
}

fn people(chain: &Chain) -> Result<[Address; 3]> {
    Ok([chain.account(0)?, chain.account(1)?, chain.account(2)?])
}
