//! The life of key shares: how a committee gets them from a dealer, keeps them, passes them on, and gets lost ones back.
