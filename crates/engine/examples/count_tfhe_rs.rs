//! Has the CPU backend evaluate every row of the engine's table as whole operations, under toy keys, so that a debugger can count tfhe-rs's bootstraps.
//!
//! ```sh
//! cargo build --release -p cipherloom -p cipherloom-engine --example count_tfhe_rs
//! gdb --batch -x crates/engine/examples/count_tfhe_rs.py --args "${CARGO_TARGET_DIR:-target}/release/examples/count_tfhe_rs"
//! ```
//!
//! prints, in a minute or two, the numbers that `crates/engine/src/counts/entries.rs` has.

use std::{collections::HashMap, error::Error, hint::black_box};

use cipherloom_engine::counts::samples;
use cipherloom_fhe::{Ciphertext, insecure_test_keys};
use cipherloom_primitives::{Address, Handle, U256, input::InputMetadata};

/// How many values of up to 256 bits one list of inputs holds.
const LIST: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let keys = insecure_test_keys()?;
    let (backend, encryptor) = (keys.evaluation()?, keys.encryptor()?);
    let metadata = InputMetadata {
        contract: Address::repeat_byte(1),
        user: Address::repeat_byte(2),
        acl: Address::repeat_byte(3),
        chain_id: 1,
    };
    for (row, (_, widths)) in samples().enumerate() {
        for (width, sample) in widths.into_iter().enumerate() {
            let Some(sample) = sample else { continue };
            let mut known: HashMap<Handle, Ciphertext> = HashMap::new();
            for handles in sample.inputs.chunks(LIST) {
                let values: Vec<_> = handles.iter().map(|handle| (handle.fhe_type(), U256::ONE)).collect();
                let list = encryptor.encrypt(&values, &metadata)?;
                known.extend(handles.iter().copied().zip(backend.expand_input(&list)?));
            }
            begin(row, width);
            for computation in &sample.computations {
                let inputs: Vec<&Ciphertext> = computation.inputs.iter().filter_map(|input| known.get(input)).collect();
                let result = backend.evaluate(&computation.operation, &inputs)?;
                known.insert(computation.result, result);
            }
            end(row, width);
        }
    }
    Ok(())
}

/// Where the debugger begins to count.
#[inline(never)]
fn begin(row: usize, width: usize) {
    black_box((row, width));
}

/// Where it stops.
#[inline(never)]
fn end(row: usize, width: usize) {
    black_box((width, row));
}
