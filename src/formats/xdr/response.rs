//! The answer (xdr.md section 4).
