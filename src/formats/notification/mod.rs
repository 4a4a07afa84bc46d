//! Notifications: MDN (RFC 8098) and DSN (RFC 3464).
