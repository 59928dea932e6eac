const { buildModule } = require("@nomicfoundation/hardhat-ignition/modules");

module.exports = buildModule("VaultModule", (m) => {
  const opensAt = m.getParameter("opensAt", 2_000_000_000);
  const vault = m.contract("Vault", [opensAt], { value: 1_000n });
  m.call(vault, "deposit", [], { value: 5n });
  return { vault };
});
