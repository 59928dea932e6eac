// How each SDK shows each refusal. The parts are those of `describe` in check.mjs: class, code, the gateway's label and status, and text.

/** relayer-sdk checks this much by itself, before it asks the gateway. */
const relayerChecks = {
  notMine: { class: "Error", text: /User address 0x\w+ is not authorized to user decrypt handle/ },
  notPublic: { class: "ACLPublicDecryptionError", text: /not allowed for public decryption/ },
  expired: { class: "Error", text: /User decrypt request has expired/ },
  notYet: { class: "Error", text: /startTimestamp is set in the future/ },
  otherChain: { class: "Error", text: /is not authorized to user decrypt handle/ },
  wrongHostChain: { class: "FhevmConfigError", text: /Invalid config chainId 31338. Expecting 31337/ },
  wrongGatewayChain: { class: "FhevmConfigError", text: /Invalid config gatewayChainId \d+. Expecting \d+/ },
};

/** What the gateway's refusals say, whatever becomes of the rest of the answer. */
const says = {
  notAllowed: /account 0x\w+ is not allowed to read handle 0x\w+/,
  notPublic: /handle 0x\w+ is not allowed for public decryption/,
  notSigned: /the permit is not signed by 0x\w+/,
  notNamed: /contract/,
  expired: /the permit expired at \d+/,
  otherChain: /chain/,
  notDelegated: /0x\w+ has not delegated reading handle 0x\w+ of contract 0x\w+ to 0x\w+/,
};

/** A refusal of the gateway as relayer-sdk shows it with routes of version 2. */
const relayerApi = (label, text) => ({ class: "RelayerV2ResponseApiError", status: 400, label, text });

const relayerV2 = {
  ...relayerChecks,
  notMineDeceived: relayerApi("not_allowed_on_host_acl", says.notAllowed),
  notPublicDeceived: relayerApi("not_allowed_on_host_acl", says.notPublic),
  wrongSignature: relayerApi("validation_failed", says.notSigned),
  otherContract: relayerApi("validation_failed", says.notNamed),
  otherChainDeceived: relayerApi("validation_failed", says.otherChain),
  expiredDeceived: relayerApi("validation_failed", says.expired),
  notDelegated: relayerApi("not_allowed_on_host_acl", says.notDelegated),
  notDelegatedDeceived: relayerApi("not_allowed_on_host_acl", says.notDelegated),
  tampered: { class: "RelayerV2ResponseInputProofRejectedError", text: /InputProof rejected/ },
};

/** With routes of version 1 relayer-sdk keeps nothing of the gateway's answer but its status. */
const relayerFetch = { class: "Error", status: 400, code: "RELAYER_FETCH_ERROR", text: /relayer respond with HTTP code 400/ };

const relayerV1 = {
  ...relayerChecks,
  notMineDeceived: relayerFetch,
  notPublicDeceived: relayerFetch,
  wrongSignature: relayerFetch,
  otherContract: relayerFetch,
  otherChainDeceived: relayerFetch,
  expiredDeceived: relayerFetch,
  tampered: { class: "Error", status: 400, code: "RELAYER_FETCH_ERROR", text: /the proof of the input does not hold for this contract, user and chain/ },
};

/** @fhevm/sdk checks signatures and contracts by itself too. */
const fhevmApi = (label, text) => ({ class: "RelayerResponseApiError", status: 400, label, text });

/** It does not know this label, and shows what it does not understand. */
const fhevmUnknownLabel = { class: "RelayerResponseInvalidBodyError", status: 400, text: /unexpected value 'not_allowed_on_host_acl'/ };

const fhevm = {
  notMine: { class: "AclUserDecryptionError", text: /User 0x\w+ is not authorized to decrypt handle/ },
  notPublic: { class: "AclPublicDecryptionError", text: /not allowed for public decryption/ },
  expired: { class: "Error", text: /request has expired/ },
  notYet: { class: "Error", text: /startTimestamp is set in the future/ },
  otherChain: { class: "FhevmHandleError", text: /has chainId 31338, expected 31337/ },
  wrongHostChain: { class: "FhevmHandleError", text: /has chainId 31337, expected 31338/ },
  wrongGatewayChain: { class: "UnknownSignerError", text: /is not in the list of kms signers/ },
  wrongSignature: { class: "UnknownSignerError", text: /is not in the list of kms signers/ },
  contractWallet: { class: "UnknownSignerError", text: /is not in the list of kms signers/ },
  otherContract: { class: "Error", text: /is not listed in the permit's contractAddresses/ },
  notDelegated: { class: "AclUserDecryptionError", text: /Delegate 0x\w+ is not delegated by 0x\w+/ },
  notMineDeceived: fhevmUnknownLabel,
  notPublicDeceived: fhevmUnknownLabel,
  otherChainDeceived: { class: "FhevmHandleError", text: /has chainId 31338, expected 31337/ },
  notDelegatedDeceived: fhevmUnknownLabel,
  expiredDeceived: fhevmApi("validation_failed", says.expired),
  tampered: { class: "RelayerResponseInputProofRejectedError", text: /Relayer rejected the input proof/ },
};

/** @zama-fhe/sdk runs relayer-sdk in a worker, and hands its errors on as text. */
const zamaText = (text) => ({ class: "Error", text });

const zama = {
  ...Object.fromEntries(Object.entries(relayerV2).map(([name, { text }]) => [name, zamaText(text)])),
  wrongHostChain: { name: "ConfigurationError", code: "CONFIGURATION", text: relayerChecks.wrongHostChain.text },
  wrongGatewayChain: { name: "ConfigurationError", code: "CONFIGURATION", text: relayerChecks.wrongGatewayChain.text },
};

export const REFUSALS = { "relayer-v2": relayerV2, "relayer-v1": relayerV1, fhevm, zama };
