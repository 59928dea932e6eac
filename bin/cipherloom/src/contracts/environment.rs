//! Variables of the environment and of `.env` files, under the names that the 0.6 generation's deployment scripts use.
//!
//! A variable of the process wins over the same one in a file, as with other readers of such files. Keys among them are kept in memory that is
//! zeroed, and never repeated in messages.

use std::{collections::BTreeMap, path::Path};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use zeroize::Zeroizing;

/// The key that deploys the host contracts.
pub(crate) const DEPLOYER_KEY: &str = "PRIVATE_KEY_FHEVM_DEPLOYER";

/// The key that deploys the GatewayContract.
pub(crate) const GATEWAY_DEPLOYER_KEY: &str = "PRIVATE_KEY_GATEWAY_DEPLOYER";

/// The words that the deployer's key is derived from.
pub(crate) const DEPLOYER_MNEMONIC: &str = "CIPHERLOOM_DEPLOYER_MNEMONIC";

/// The key of a block explorer's API.
pub(crate) const EXPLORER_KEY: &str = "ETHERSCAN_API_KEY";

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The most KMS signers that are read, which is the most that the contracts take.
const MAX_SIGNERS: u64 = 255;

/// Where settings come from besides options.
pub(crate) struct Environment {
    file: BTreeMap<String, Zeroizing<String>>,
}

impl Environment {
    /// Reads a file, if one is named.
    ///
    /// # Errors
    /// If it cannot be read or a line is none of such a file.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else {
            return Ok(Self { file: BTreeMap::new() });
        };
        let unreadable = || format!("cannot read {}", path.display());
        let size = std::fs::metadata(path).with_context(unreadable)?.len();
        ensure!(size <= MAX_BYTES, "{} is too long for a file of variables", path.display());
        let text = Zeroizing::new(std::fs::read_to_string(path).with_context(unreadable)?);
        let file = parse(&text).with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { file })
    }

    /// Returns a variable; an empty one is none.
    pub(crate) fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let process = std::env::var(name).ok().map(Zeroizing::new);
        let found = process.or_else(|| self.file.get(name).cloned())?;
        let trimmed = Zeroizing::new(found.trim().to_owned());
        (!trimmed.is_empty()).then_some(trimmed)
    }

    /// Returns a variable that names an account.
    ///
    /// # Errors
    /// If it is no address.
    pub(crate) fn address(&self, name: &str) -> Result<Option<Address>> {
        let Some(text) = self.variable(name) else { return Ok(None) };
        let address = text
            .parse()
            .map_err(|_| anyhow::anyhow!("{name} is {:?}, which is no address", &**text));
        address.map(Some)
    }

    /// Returns the coprocessor's account. Documentation and scripts of the 0.6 generation call it differently.
    ///
    /// # Errors
    /// If it is no address.
    pub(crate) fn coprocessor(&self) -> Result<Option<Address>> {
        match self.address("ADDRESS_COPROCESSOR_ACCOUNT")? {
            Some(address) => Ok(Some(address)),
            None => self.address("ADDRESS_COPROCESSOR"),
        }
    }

    /// Returns the KMS signers: `ADDRESS_KMS_SIGNER_0` up to what `NUM_KMS_SIGNERS` says.
    ///
    /// # Errors
    /// If the number or an address is malformed or missing.
    pub(crate) fn kms_signers(&self) -> Result<Vec<Address>> {
        let Some(count) = self.variable("NUM_KMS_SIGNERS") else {
            return Ok(self.address("ADDRESS_KMS_SIGNER_0")?.into_iter().collect());
        };
        let count: u64 = count.parse().with_context(|| format!("NUM_KMS_SIGNERS is {:?}", &**count))?;
        ensure!(
            (1..=MAX_SIGNERS).contains(&count),
            "NUM_KMS_SIGNERS is {count}, not between 1 and {MAX_SIGNERS}"
        );
        (0..count)
            .map(|index| {
                let name = format!("ADDRESS_KMS_SIGNER_{index}");
                self.address(&name)?
                    .with_context(|| format!("NUM_KMS_SIGNERS is {count}, and {name} is missing"))
            })
            .collect()
    }
}

/// Reads lines `NAME=value`, with `export` in front or not, quotes around the value or not, and comments.
fn parse(text: &str) -> Result<BTreeMap<String, Zeroizing<String>>> {
    let mut variables = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            bail!("line {number} is not of the form NAME=value");
        };
        let name = name.trim();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        ensure!(is_name, "line {number} does not begin with a variable's name");
        variables.insert(name.to_owned(), Zeroizing::new(unquoted(value.trim()).to_owned()));
    }
    Ok(variables)
}

/// Takes quotes off, or else a comment at the end.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some((inside, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inside;
        }
    }
    value.split_once(" #").map_or(value, |(value, _)| value.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(text: &str) -> Environment {
        Environment {
            file: parse(text).unwrap(),
        }
    }

    #[test]
    fn files_are_read_as_shells_and_other_readers_do() {
        let read = environment("# keys\nexport A=1\nB=\"two # 2\"\n C = '3' # three\nD=4 # four\nE=\n\n");
        for (name, value) in [("A", "1"), ("B", "two # 2"), ("C", "3"), ("D", "4")] {
            assert_eq!(read.variable(name).unwrap().as_str(), value);
        }
        assert!(read.variable("E").is_none());
        assert!(parse("no assignment").is_err());
        assert!(parse("a b=c").is_err());
    }

    #[test]
    fn signers_are_counted() {
        let one = "0x0971C80fF03B428fD2094dd5354600ab103201C5";
        let two = "0xc9990FEfE0c27D31D0C2aa36196b085c0c4d456c";
        let text = format!("NUM_KMS_SIGNERS=\"2\"\nADDRESS_KMS_SIGNER_0={one}\nADDRESS_KMS_SIGNER_1={two}\nADDRESS_COPROCESSOR={one}\n");
        let read = environment(&text);
        assert_eq!(read.kms_signers().unwrap(), [one.parse::<Address>().unwrap(), two.parse().unwrap()]);
        assert_eq!(read.coprocessor().unwrap(), Some(one.parse().unwrap()));
        let error = environment("NUM_KMS_SIGNERS=1\n").kms_signers().unwrap_err().to_string();
        assert!(error.contains("ADDRESS_KMS_SIGNER_0"), "{error}");
        assert!(environment("NUM_KMS_SIGNERS=256\n").kms_signers().is_err());
        assert!(environment("ADDRESS_COPROCESSOR=0x12\n").coprocessor().is_err());
    }
}
