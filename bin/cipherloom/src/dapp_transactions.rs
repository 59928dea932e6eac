//! What users of real contracts do, one transaction after the other: the examples and the published ERC-7984 token.
//!
//! `cipherloom graph statistics` looks at what the transactions ask to be computed, `cipherloom bench gas` at what they cost on chain.

use std::path::Path;

use alloy::{
    primitives::{Address, Bytes},
    sol,
    sol_types::{SolCall, SolValue},
};
use anyhow::{Context, Result};
use cipherloom_node::MinedReceipt;
use cipherloom_primitives::FheType;
use serde::Deserialize;

use crate::{
    symbolic_chain::{Input, SymbolicChain},
    token::ConfidentialToken,
};

/// How many options the vote has.
const OPTIONS: u64 = 4;

/// How long auction and vote go on, in seconds.
const DURATION: u64 = 3600;

/// How many tokens are made in the clear, each time.
const MINTED: u64 = 1_000_000;

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

/// A transaction as users of a contract send it.
pub(crate) struct DappTransaction {
    /// Which contract.
    pub(crate) contract: &'static str,
    /// What it does.
    pub(crate) name: &'static str,
    /// What came of it.
    pub(crate) receipt: MinedReceipt,
}

/// A compiled contract, as far as it matters here.
#[derive(Deserialize)]
struct Artifact {
    bytecode: Bytes,
}

/// Reads the creation bytecode in an artifact.
///
/// # Errors
/// If it is none.
pub(crate) fn bytecode(artifact: &str) -> Result<Bytes> {
    let artifact: Artifact = serde_json::from_str(artifact).context("an artifact is JSON with a `bytecode`")?;
    Ok(artifact.bytecode)
}

/// Reads the creation bytecode in an artifact file.
///
/// # Errors
/// If the file cannot be read, or is none.
pub(crate) fn bytecode_in(path: &Path) -> Result<Bytes> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    bytecode(&text).with_context(|| path.display().to_string())
}

/// The creation bytecode of the example contracts.
pub(crate) struct ExampleCode {
    token: Bytes,
    auction: Bytes,
    ballot: Bytes,
}

impl ExampleCode {
    /// The examples as they are built in, from our library.
    ///
    /// # Errors
    /// If an artifact is none.
    pub(crate) fn built_in() -> Result<Self> {
        Ok(Self {
            token: bytecode(include_str!(
                "../../../examples/confidential-token/artifacts/ConfidentialToken.json"
            ))?,
            auction: bytecode(include_str!("../../../examples/auction/artifacts/SealedBidAuction.json"))?,
            ballot: bytecode(include_str!("../../../examples/voting/artifacts/SecretBallot.json"))?,
        })
    }

    /// The examples in the folder that `cargo xtask examples-npm` compiles them into.
    ///
    /// # Errors
    /// If an artifact cannot be read.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self> {
        Ok(Self {
            token: bytecode_in(&folder.join("confidential-token/ConfidentialToken.json"))?,
            auction: bytecode_in(&folder.join("auction/SealedBidAuction.json"))?,
            ballot: bytecode_in(&folder.join("voting/SecretBallot.json"))?,
        })
    }
}

/// One contract on the chain, and what was done with it.
struct Stage<'a> {
    chain: &'a SymbolicChain,
    name: &'static str,
    contract: Address,
    transactions: Vec<DappTransaction>,
}

impl<'a> Stage<'a> {
    const fn new(chain: &'a SymbolicChain, name: &'static str, contract: Address) -> Self {
        Self {
            chain,
            name,
            contract,
            transactions: Vec::new(),
        }
    }

    /// Sends a transaction and keeps what comes of it.
    fn record<C: SolCall>(&mut self, name: &'static str, from: Address, call: &C) -> Result<()> {
        let sent = self.chain.call(from, self.contract, call);
        let receipt = sent.with_context(|| format!("{}: {name}", self.name))?;
        self.transactions.push(DappTransaction {
            contract: self.name,
            name,
            receipt,
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

/// Uses the example contracts.
///
/// # Errors
/// If a contract refuses a transaction.
pub(crate) fn examples(chain: &SymbolicChain, code: &ExampleCode) -> Result<Vec<DappTransaction>> {
    let (token, mut transactions) = token(chain, &code.token)?;
    transactions.extend(auction(chain, &code.auction, token)?);
    transactions.extend(vote(chain, &code.ballot)?);
    Ok(transactions)
}

fn token(chain: &SymbolicChain, code: &Bytes) -> Result<(Address, Vec<DappTransaction>)> {
    let [owner, alice, bob] = people(chain)?;
    let contract = chain.deploy(owner, code, &[])?;
    let mut stage = Stage::new(chain, "token", contract);
    let mint = |to| ConfidentialToken::mintCall { to, amount: MINTED };
    stage.record("mint a public amount, the first time", owner, &mint(alice))?;
    stage.record("mint a public amount", owner, &mint(alice))?;
    stage.record(
        "make the total supply public",
        owner,
        &ConfidentialToken::makeTotalSupplyPublicCall {},
    )?;
    let published = chain.read(contract, &ConfidentialToken::publishedTotalSupplyCall {})?;
    let verify = ConfidentialToken::verifyTotalSupplyCall {
        clear: 2 * MINTED,
        decryptionProof: chain.decryption_proof(published, 2 * MINTED)?,
    };
    stage.record("verify the total supply", bob, &verify)?;
    let Input { handle, proof } = stage.input(owner, FheType::Uint64)?;
    let mint_encrypted = TokenOwner::mintEncryptedCall {
        to: alice,
        amount: handle,
        inputProof: proof,
    };
    stage.record("mint a secret amount", owner, &mint_encrypted)?;
    for name in ["transfer to a new account", "transfer"] {
        let Input { handle, proof } = stage.input(alice, FheType::Uint64)?;
        let transfer = ConfidentialToken::transferCall {
            to: bob,
            amount: handle,
            inputProof: proof,
        };
        stage.record(name, alice, &transfer)?;
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
    Ok((contract, stage.transactions))
}

fn auction(chain: &SymbolicChain, code: &Bytes, token: Address) -> Result<Vec<DappTransaction>> {
    let [seller, alice, bob] = people(chain)?;
    let contract = chain.deploy(seller, code, &(token, seller, DURATION).abi_encode())?;
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
    for (name, bidder) in [("first bid", alice), ("bid of another", bob), ("raise of a bid", alice)] {
        let Input { handle, proof } = stage.input(bidder, FheType::Uint64)?;
        let bid = Auction::bidCall {
            amount: handle,
            inputProof: proof,
        };
        stage.record(name, bidder, &bid)?;
    }
    chain.pass(DURATION)?;
    stage.record("withdraw", bob, &Auction::withdrawCall {})?;
    stage.record("collect", seller, &Auction::collectCall {})?;
    Ok(stage.transactions)
}

fn vote(chain: &SymbolicChain, code: &Bytes) -> Result<Vec<DappTransaction>> {
    let [chair, alice, bob] = people(chain)?;
    let contract = chain.deploy(chair, code, &(OPTIONS, DURATION).abi_encode())?;
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
    Ok(stage.transactions)
}

/// Uses the published token, from a folder that `cargo xtask erc7984` compiles it into.
///
/// # Errors
/// If an artifact cannot be read, or a contract refuses a transaction.
pub(crate) fn erc7984(chain: &SymbolicChain, folder: &Path) -> Result<Vec<DappTransaction>> {
    let [owner, alice, bob] = people(chain)?;
    let receiver = chain.deploy(owner, &bytecode_in(&folder.join("Receiver.json"))?, &[])?;
    let contract = chain.deploy(owner, &bytecode_in(&folder.join("PublishedToken.json"))?, &[])?;
    let mut stage = Stage::new(chain, "ERC7984", contract);
    for name in ["mint, the first time", "mint"] {
        let Input { handle, proof } = stage.input(owner, FheType::Uint64)?;
        let mint = Published::mintCall {
            to: alice,
            amount: handle,
            inputProof: proof,
        };
        stage.record(name, owner, &mint)?;
    }
    for name in ["transfer to a new account", "transfer"] {
        let Input { handle, proof } = stage.input(alice, FheType::Uint64)?;
        let transfer = Published::confidentialTransferCall {
            to: bob,
            amount: handle,
            inputProof: proof,
        };
        stage.record(name, alice, &transfer)?;
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
    Ok(stage.transactions)
}

fn people(chain: &SymbolicChain) -> Result<[Address; 3]> {
    Ok([chain.account(0)?, chain.account(1)?, chain.account(2)?])
}
