//! Coming back: the journal's records, executed again.

use alloy::consensus::TxEnvelope;
use alloy::eips::Decodable2718;

use super::mine::run;
use super::rewind::edited;
use super::{Core, DEVELOPMENT_MARK};
use crate::chain::block::BlockBuilder;
use crate::chain::journal::{Journal, Record, VERSION};
use crate::chain::pool::PoolTransaction;
use crate::error::{NodeError, Result};
use crate::exec::Sender;

impl Core {
    pub(super) fn restore(&mut self, journal: Option<Journal>, records: Vec<Record>, genesis: &Record) -> Result<()> {
        let Some(mut journal) = journal else { return Ok(()) };
        let count = records.len();
        for (index, record) in records.into_iter().enumerate() {
            if index == 0 {
                check_genesis(&record, genesis, &journal)?;
                continue;
            }
            self.replay(record).map_err(|error| match error {
                mismatch @ NodeError::ReplayMismatch { .. } => mismatch,
                other => NodeError::JournalCorrupt {
                    path: journal.path().to_owned(),
                    record: index + 1,
                    reason: other.to_string(),
                },
            })?;
        }
        if count == 0 {
            journal.append(genesis)?;
        } else {
            tracing::info!(
                blocks = self.head().header.number,
                records = count,
                "development chain restored from its journal"
            );
        }
        self.journal = Some(journal);
        Ok(())
    }

    pub(super) fn replay(&mut self, record: Record) -> Result<()> {
        match record {
            Record::Genesis { .. } => Err(NodeError::Internal("a second genesis record".to_owned())),
            Record::Block {
                number,
                timestamp,
                base_fee,
                time_offset,
                transactions,
                hash,
                settings,
                prevrandao,
            } => {
                self.settings = settings;
                self.next_prevrandao = prevrandao;
                let (context, parent) = self.next_context_with(timestamp, base_fee);
                let mut state = self.head_state().clone();
                let mut builder = BlockBuilder::default();
                for recorded in transactions {
                    let envelope = TxEnvelope::decode_2718_exact(&recorded.raw)
                        .map_err(|error| NodeError::Internal(format!("transaction: {error}")))?;
                    let kind = if recorded.impersonated {
                        Sender::Impersonated
                    } else {
                        Sender::Signed
                    };
                    let transaction = PoolTransaction {
                        hash: *envelope.tx_hash(),
                        sender: recorded.sender,
                        envelope,
                        kind,
                    };
                    run(&mut state, &mut builder, &context, &transaction)?;
                }
                let block = builder.seal(parent, &context, state.root_hash(), DEVELOPMENT_MARK);
                if block.hash != hash || block.header.number != number {
                    return Err(NodeError::ReplayMismatch {
                        number,
                        recorded: hash,
                        actual: block.hash,
                    });
                }
                self.time_offset = time_offset;
                self.adopt(block, state);
                Ok(())
            }
            Record::Edit(edit) => {
                let edited = edited(self.head_state(), &edit)?;
                self.replace_head_state(edited);
                Ok(())
            }
            Record::Snapshot { id } => {
                self.keep_snapshot(id);
                Ok(())
            }
            Record::Revert { id } => {
                self.restore_snapshot(id);
                Ok(())
            }
            Record::Rollback { height } => {
                let state = self.state_of(height)?.clone();
                self.roll_back_to(height, state);
                Ok(())
            }
            Record::Reset => {
                self.begin_again();
                Ok(())
            }
            Record::TimeOffset { seconds } => {
                self.time_offset = seconds;
                Ok(())
            }
        }
    }
}

fn check_genesis(found: &Record, expected: &Record, journal: &Journal) -> Result<()> {
    let reason = match (found, expected) {
        (found, expected) if found == expected => return Ok(()),
        (Record::Genesis { version, .. }, _) if *version != VERSION => {
            format!("it has format version {version}, this program reads {VERSION}")
        }
        (Record::Genesis { chain_id, .. }, Record::Genesis { chain_id: ours, .. }) if chain_id != ours => {
            format!("its chain id is {chain_id}, the configured one {ours}")
        }
        (Record::Genesis { .. }, _) => "its first block has other accounts, balances, gas limit or coinbase".to_owned(),
        _ => "it does not begin with a genesis record".to_owned(),
    };
    Err(NodeError::JournalOfOtherChain {
        path: journal.path().to_owned(),
        reason,
    })
}
