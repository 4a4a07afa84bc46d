//! SOAP, WS-Addressing, the Direct addressBlock, and MTOM (soap.md).
