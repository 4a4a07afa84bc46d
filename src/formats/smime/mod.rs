//! S/MIME on CMS (smime.md): sign, encrypt, decrypt, verify. Keys and the present time come in as arguments.
