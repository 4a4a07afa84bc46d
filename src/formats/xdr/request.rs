//! The request (xdr.md section 2).
