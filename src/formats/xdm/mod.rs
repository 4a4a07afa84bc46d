//! XDM (ITI-32): the zip that carries documents and metadata in a mail (xdm.md).
