//! `cipherloom node`: validators and full nodes of native chains.

pub(crate) use cipherloom_validator::NodeCommand;

/// What `cipherloom node --help` begins with.
pub(crate) const HELP: &str = "\
Found a native chain, and run its validators and full nodes.

On a native chain the validators compute on ciphertexts inside the block: there is no coprocessor, and the ciphertexts that contracts store are part of the chain's \
state. `cipherloom dev --native` runs one in a single process; these commands run each node as a process of its own.

  cipherloom keys generate ./keys
  cipherloom node genesis ./chain --chain-id 420 --keys ./keys --validators 4 --full-nodes 1 --kms-signer 0x… --insecure-development
  cipherloom node run --dir ./chain/validator-1
  cipherloom node status --rpc-url http://127.0.0.1:30301

docs/validator.md is for operators, docs/native.md tells how native chains work.";
