//! Quotes of simulated trust domains, in the layout of TDX quotes of version 4.
//!
//! Source: Intel TDX DCAP Quoting Library API, appendix "Quote Format".

use alloy_primitives::FixedBytes;
use sha2::{Digest, Sha256};

use super::manufacturer::Manufacturer;
use crate::AttestError;

/// Who signed the simulated quoting enclave.
pub(super) const QUOTING_ENCLAVE_SIGNER: [u8; 32] = [0x51; 32];

/// Intel's id as a vendor of quoting enclaves; verifiers know no other.
const VENDOR: [u8; 16] = [
    0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07,
];

/// Page faults of the secure page table do not reach the guest: the one attribute that verifiers demand.
const SEPT_VE_DISABLE: u64 = 1 << 28;

/// What a simulated trust domain measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedDomain {
    /// The firmware.
    pub mr_td: FixedBytes<48>,
    /// The virtual hardware.
    pub rtmr0: FixedBytes<48>,
    /// The kernel.
    pub rtmr1: FixedBytes<48>,
    /// The command line and root file system.
    pub rtmr2: FixedBytes<48>,
    /// The application.
    pub rtmr3: FixedBytes<48>,
    /// The attributes; bit 0 says that the domain can be debugged.
    pub attributes: u64,
}

impl Default for SimulatedDomain {
    fn default() -> Self {
        Self {
            mr_td: FixedBytes::repeat_byte(0x51),
            rtmr0: FixedBytes::repeat_byte(0x52),
            rtmr1: FixedBytes::repeat_byte(0x53),
            rtmr2: FixedBytes::repeat_byte(0x54),
            rtmr3: FixedBytes::ZERO,
            attributes: SEPT_VE_DISABLE,
        }
    }
}

impl SimulatedDomain {
    /// Signs a quote.
    pub(super) fn quote(&self, manufacturer: &Manufacturer, report_data: [u8; 64]) -> Result<Vec<u8>, AttestError> {
        let signed = [self.header(), self.report(report_data)].concat();
        let quoting_key = manufacturer.quoting_key.coordinates();
        let authentication = [0x51; 32];
        let enclave = enclave_report(&quoting_key, &authentication);
        let chain = manufacturer.platform_chain().as_bytes();
        let certification = [
            enclave.as_slice(),
            &manufacturer.platform_key.sign_raw(&enclave),
            &length16(authentication.len())?,
            &authentication,
            &5u16.to_le_bytes(),
            &length32(chain.len())?,
            chain,
        ]
        .concat();
        let signature = [
            manufacturer.quoting_key.sign_raw(&signed).as_slice(),
            &quoting_key,
            &6u16.to_le_bytes(),
            &length32(certification.len())?,
            &certification,
        ]
        .concat();
        Ok([signed.as_slice(), &length32(signature.len())?, &signature].concat())
    }

    fn header(&self) -> Vec<u8> {
        [
            &4u16.to_le_bytes()[..],
            // The attestation key is an ECDSA key on P-256; the environment is TDX.
            &2u16.to_le_bytes(),
            &0x81u32.to_le_bytes(),
            &[0; 4],
            &VENDOR,
            &[0; 20],
        ]
        .concat()
    }

    fn report(&self, report_data: [u8; 64]) -> Vec<u8> {
        let none = [0; 48];
        [
            &[0; 16][..],
            &none,
            &none,
            &[0; 8],
            &self.attributes.to_le_bytes(),
            &[0; 8],
            self.mr_td.as_slice(),
            &none,
            &none,
            &none,
            self.rtmr0.as_slice(),
            self.rtmr1.as_slice(),
            self.rtmr2.as_slice(),
            self.rtmr3.as_slice(),
            &report_data,
        ]
        .concat()
    }
}

/// The report of the quoting enclave over the key that signs quotes.
fn enclave_report(quoting_key: &[u8], authentication: &[u8]) -> Vec<u8> {
    let bound = Sha256::digest([quoting_key, authentication].concat());
    [
        &[0; 16][..],
        &[0; 4],
        &[0; 28],
        &[0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0; 32],
        &[0; 32],
        &QUOTING_ENCLAVE_SIGNER,
        &[0; 96],
        &2u16.to_le_bytes(),
        &4u16.to_le_bytes(),
        &[0; 60],
        &bound,
        &[0; 32],
    ]
    .concat()
}

fn length16(length: usize) -> Result<[u8; 2], AttestError> {
    u16::try_from(length).map(u16::to_le_bytes).map_err(|_| too_long())
}

fn length32(length: usize) -> Result<[u8; 4], AttestError> {
    u32::try_from(length).map(u32::to_le_bytes).map_err(|_| too_long())
}

fn too_long() -> AttestError {
    AttestError::Malformed("a part of the simulated quote is too long".into())
}
