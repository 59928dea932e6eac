import { buildModule } from "@nomicfoundation/hardhat-ignition/modules";

export default buildModule("VaultModule", (m) => {
  const vault = m.contract("Vault", [2_000_000_000], { value: 1_000n });
  m.call(vault, "deposit", [], { value: 5n });
  return { vault };
});
