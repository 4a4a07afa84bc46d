//! A safe face on those parts of OpenSSL's CMS that the `openssl` crate does not have: several signers, digests other
//! than SHA-1, OAEP and ECDH recipients, streaming in both layers, and a verdict for each signer. The only file with
//! `unsafe`.
//!
//! Ownership: every pointer that a function of OpenSSL hands over is wrapped at once in [`Cms`], [`Chain`] or a type of
//! the `openssl` crate, which frees it; pointers into a CMS live no longer than the borrow of its [`Cms`].
#![expect(
    unsafe_code,
    reason = "the one place that calls OpenSSL's CMS directly"
)]

use std::{
    any::Any,
    ffi::{c_char, c_int, c_long, c_uint, c_void},
    io::{self, Write},
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::{self, NonNull},
    sync::OnceLock,
};

use foreign_types::{ForeignType, ForeignTypeRef};
use jiff::Timestamp;
use openssl::{
    asn1::{Asn1OctetStringRef, Asn1TimeRef},
    error::ErrorStack,
    hash::MessageDigest,
    md::Md,
    nid::Nid,
    pkey::{PKeyRef, Private},
    pkey_ctx::PkeyCtxRef,
    rsa::Padding,
    stack::Stack,
    symm::Cipher,
    x509::{X509, X509Ref},
};
use openssl_sys as sys;

const CMS_DETACHED: c_uint = 0x40;
const CMS_BINARY: c_uint = 0x80;
const CMS_NOSMIMECAP: c_uint = 0x200;
const CMS_STREAM: c_uint = 0x1000;
const CMS_PARTIAL: c_uint = 0x4000;
const CMS_USE_KEYID: c_uint = 0x1_0000;
const CMS_KEY_PARAM: c_uint = 0x4_0000;

/// `CMS_RecipientInfo_type`: key transport.
const RECIPIENT_TRANSPORT: c_int = 0;
/// `CMS_RecipientInfo_type`: key agreement.
const RECIPIENT_AGREEMENT: c_int = 1;

const BIO_CTRL_FLUSH: c_int = 11;
const BIO_C_GET_CIPHER_STATUS: c_int = 113;
const BIO_C_SET_BUF_MEM_EOF_RETURN: c_int = 130;
/// `BIO_TYPE_SOURCE_SINK`: a BIO that ends a chain.
const BIO_TYPE_SOURCE_SINK: c_int = 0x400;

/// Octets that pass between Rust and OpenSSL at once.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

enum SignerInfoPtr {}
enum RecipientInfoPtr {}
enum RecipientKeyPtr {}

unsafe extern "C" {
    fn BIO_get_new_index() -> c_int;
    fn BIO_new_CMS(out: *mut sys::BIO, cms: *mut sys::CMS_ContentInfo) -> *mut sys::BIO;
    fn CMS_dataInit(cms: *mut sys::CMS_ContentInfo, content: *mut sys::BIO) -> *mut sys::BIO;
    fn CMS_dataFinal(cms: *mut sys::CMS_ContentInfo, chain: *mut sys::BIO) -> c_int;
    fn CMS_add1_signer(
        cms: *mut sys::CMS_ContentInfo,
        certificate: *mut sys::X509,
        key: *mut sys::EVP_PKEY,
        digest: *const sys::EVP_MD,
        flags: c_uint,
    ) -> *mut SignerInfoPtr;
    fn CMS_add1_cert(cms: *mut sys::CMS_ContentInfo, certificate: *mut sys::X509) -> c_int;
    fn CMS_add_simple_smimecap(
        list: *mut *mut sys::OPENSSL_STACK,
        algorithm: c_int,
        key_bits: c_int,
    ) -> c_int;
    fn CMS_add_smimecap(signer: *mut SignerInfoPtr, list: *mut sys::OPENSSL_STACK) -> c_int;
    fn CMS_signed_add1_attr_by_NID(
        signer: *mut SignerInfoPtr,
        nid: c_int,
        kind: c_int,
        value: *const c_void,
        length: c_int,
    ) -> c_int;
    fn CMS_add1_recipient_cert(
        cms: *mut sys::CMS_ContentInfo,
        certificate: *mut sys::X509,
        flags: c_uint,
    ) -> *mut RecipientInfoPtr;
    fn CMS_RecipientInfo_type(recipient: *mut RecipientInfoPtr) -> c_int;
    fn CMS_RecipientInfo_get0_pkey_ctx(recipient: *mut RecipientInfoPtr) -> *mut sys::EVP_PKEY_CTX;
    fn EVP_PKEY_CTX_set_ecdh_kdf_md(
        context: *mut sys::EVP_PKEY_CTX,
        digest: *const sys::EVP_MD,
    ) -> c_int;
    fn CMS_get0_RecipientInfos(cms: *mut sys::CMS_ContentInfo) -> *mut sys::OPENSSL_STACK;
    fn CMS_RecipientInfo_ktri_cert_cmp(
        recipient: *mut RecipientInfoPtr,
        certificate: *mut sys::X509,
    ) -> c_int;
    fn CMS_RecipientInfo_ktri_get0_algs(
        recipient: *mut RecipientInfoPtr,
        key: *mut *mut sys::EVP_PKEY,
        certificate: *mut *mut sys::X509,
        algorithm: *mut *mut sys::X509_ALGOR,
    ) -> c_int;
    fn CMS_RecipientInfo_kari_get0_alg(
        recipient: *mut RecipientInfoPtr,
        algorithm: *mut *mut sys::X509_ALGOR,
        user_key_material: *mut *mut c_void,
    ) -> c_int;
    fn CMS_RecipientInfo_kari_get0_reks(
        recipient: *mut RecipientInfoPtr,
    ) -> *mut sys::OPENSSL_STACK;
    fn CMS_RecipientEncryptedKey_cert_cmp(
        key: *mut RecipientKeyPtr,
        certificate: *mut sys::X509,
    ) -> c_int;
    fn CMS_decrypt_set1_pkey(
        cms: *mut sys::CMS_ContentInfo,
        key: *mut sys::EVP_PKEY,
        certificate: *mut sys::X509,
    ) -> c_int;
    fn CMS_get0_content(cms: *mut sys::CMS_ContentInfo) -> *mut *mut c_void;
    fn CMS_get0_eContentType(cms: *mut sys::CMS_ContentInfo) -> *const sys::ASN1_OBJECT;
    fn CMS_get1_certs(cms: *mut sys::CMS_ContentInfo) -> *mut sys::stack_st_X509;
    fn CMS_get0_SignerInfos(cms: *mut sys::CMS_ContentInfo) -> *mut sys::OPENSSL_STACK;
    fn CMS_SignerInfo_cert_cmp(signer: *mut SignerInfoPtr, certificate: *mut sys::X509) -> c_int;
    fn CMS_SignerInfo_set1_signer_cert(signer: *mut SignerInfoPtr, certificate: *mut sys::X509);
    fn CMS_SignerInfo_get0_algs(
        signer: *mut SignerInfoPtr,
        key: *mut *mut sys::EVP_PKEY,
        certificate: *mut *mut sys::X509,
        digest: *mut *mut sys::X509_ALGOR,
        signature: *mut *mut sys::X509_ALGOR,
    );
    fn CMS_SignerInfo_verify(signer: *mut SignerInfoPtr) -> c_int;
    fn CMS_SignerInfo_verify_content(signer: *mut SignerInfoPtr, chain: *mut sys::BIO) -> c_int;
    fn CMS_signed_get_attr_count(signer: *const SignerInfoPtr) -> c_int;
    fn CMS_signed_get0_data_by_OBJ(
        signer: *mut SignerInfoPtr,
        kind: *const sys::ASN1_OBJECT,
        last: c_int,
        value_type: c_int,
    ) -> *mut c_void;
}

/// Turns a null pointer into the error that OpenSSL left.
fn not_null<T>(pointer: *mut T) -> Result<*mut T, ErrorStack> {
    if pointer.is_null() {
        Err(ErrorStack::get())
    } else {
        Ok(pointer)
    }
}

/// Turns a result that is not positive into the error that OpenSSL left.
fn positive(result: c_int) -> Result<(), ErrorStack> {
    if result > 0 {
        Ok(())
    } else {
        Err(ErrorStack::get())
    }
}

/// Whether basicConstraints says that this is a CA.
pub(super) fn is_ca(certificate: &X509Ref) -> bool {
    // SAFETY: the pointer is valid as long as the reference; the call fills the certificate's own cache under
    // OpenSSL's lock.
    let flags = unsafe { sys::X509_get_extension_flags(certificate.as_ptr()) };
    let wanted = sys::EXFLAG_BCONS | sys::EXFLAG_CA;
    flags & wanted == wanted && flags & sys::EXFLAG_INVALID == 0
}

/// An owned `CMS_ContentInfo`.
struct Cms(NonNull<sys::CMS_ContentInfo>);

impl Cms {
    fn own(pointer: *mut sys::CMS_ContentInfo) -> Result<Self, ErrorStack> {
        NonNull::new(pointer).map(Self).ok_or_else(ErrorStack::get)
    }

    fn as_ptr(&self) -> *mut sys::CMS_ContentInfo {
        self.0.as_ptr()
    }

    fn to_der(&self) -> Result<Vec<u8>, ErrorStack> {
        // SAFETY: with a null target the call only measures; then it writes exactly that many octets.
        unsafe {
            let length = sys::i2d_CMS_ContentInfo(self.as_ptr(), ptr::null_mut());
            positive(length)?;
            let mut der = vec![0; usize::try_from(length).unwrap_or(0)];
            let mut end = der.as_mut_ptr();
            positive(sys::i2d_CMS_ContentInfo(self.as_ptr(), &mut end))?;
            Ok(der)
        }
    }
}

impl Drop for Cms {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once.
        unsafe { sys::CMS_ContentInfo_free(self.as_ptr()) }
    }
}

/// An owned chain of BIOs.
struct Chain(NonNull<sys::BIO>);

impl Chain {
    fn own(pointer: *mut sys::BIO) -> Result<Self, ErrorStack> {
        NonNull::new(pointer).map(Self).ok_or_else(ErrorStack::get)
    }

    fn as_ptr(&self) -> *mut sys::BIO {
        self.0.as_ptr()
    }

    /// Writes all of `octets`.
    fn write_all(&self, octets: &[u8]) -> Result<(), ErrorStack> {
        for block in octets.chunks(BLOCK_BYTES) {
            let mut rest = block;
            while !rest.is_empty() {
                let length = c_int::try_from(rest.len()).unwrap_or(c_int::MAX);
                // SAFETY: the slice is valid for `length` octets, and OpenSSL only reads them.
                let written =
                    unsafe { sys::BIO_write(self.as_ptr(), rest.as_ptr().cast(), length) };
                positive(written)?;
                let written = usize::try_from(written).unwrap_or(0);
                rest = rest.get(written..).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Reads until the end, and hands each block to `take`.
    fn read_all(&self, mut take: impl FnMut(&[u8])) -> Result<(), ErrorStack> {
        let mut block = vec![0; BLOCK_BYTES];
        let length = c_int::try_from(block.len()).unwrap_or(c_int::MAX);
        loop {
            // SAFETY: OpenSSL writes `length` octets at the most.
            let read = unsafe { sys::BIO_read(self.as_ptr(), block.as_mut_ptr().cast(), length) };
            match usize::try_from(read) {
                Ok(0) => return Ok(()),
                Ok(read) => take(block.get(..read).unwrap_or_default()),
                Err(_) => return Err(ErrorStack::get()),
            }
        }
    }

    fn flush(&self) -> Result<(), ErrorStack> {
        // SAFETY: a flush takes no argument.
        let result = unsafe { sys::BIO_ctrl(self.as_ptr(), BIO_CTRL_FLUSH, 0, ptr::null_mut()) };
        positive(c_int::from(result > 0))
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once; frees every BIO of the chain.
        unsafe { sys::BIO_free_all(self.as_ptr()) }
    }
}

/// The list of an S/MIME capabilities attribute, while it is built.
struct Capabilities(*mut sys::OPENSSL_STACK);

impl Capabilities {
    fn of(algorithms: &[Nid]) -> Result<Self, ErrorStack> {
        let mut list = Self(ptr::null_mut());
        for algorithm in algorithms {
            // SAFETY: the call creates the list when it is null and appends to it else. A negative key length leaves
            // the parameters out (SM-19).
            positive(unsafe { CMS_add_simple_smimecap(&mut list.0, algorithm.as_raw(), -1) })?;
        }
        Ok(list)
    }
}

impl Drop for Capabilities {
    fn drop(&mut self) {
        unsafe extern "C" fn free(algorithm: *mut c_void) {
            // SAFETY: every member of the list is an X509_ALGOR.
            unsafe { sys::X509_ALGOR_free(algorithm.cast()) }
        }
        // SAFETY: owned, and freed once; null is allowed.
        unsafe { sys::OPENSSL_sk_pop_free(self.0, Some(free)) }
    }
}

/// One key that signs.
pub(super) struct Signer<'a> {
    pub(super) certificate: &'a X509Ref,
    pub(super) key: &'a PKeyRef<Private>,
}

/// Makes a detached SignedData: the content passes through, only its digest is kept.
pub(super) struct SignatureWriter {
    chain: Chain,
    cms: Cms,
}

impl SignatureWriter {
    /// Begins a signature by all `signers`. `certificates` are carried along, without doubles.
    pub(super) fn new(
        signers: &[Signer<'_>],
        certificates: &[&X509Ref],
        digest: MessageDigest,
        capabilities: &[Nid],
        signing_time: Timestamp,
    ) -> Result<Self, ErrorStack> {
        let flags = CMS_PARTIAL | CMS_DETACHED | CMS_BINARY | CMS_NOSMIMECAP;
        // SAFETY: CMS_sign with null signer and content makes an empty SignedData, which is owned at once. The
        // signer's certificate and key are only counted up by the CMS. CMS_dataInit gives a chain that is ours.
        unsafe {
            let cms = Cms::own(sys::CMS_sign(
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                flags,
            ))?;
            let capabilities = Capabilities::of(capabilities)?;
            for signer in signers {
                let info = not_null(CMS_add1_signer(
                    cms.as_ptr(),
                    signer.certificate.as_ptr(),
                    signer.key.as_ptr(),
                    digest.as_ptr(),
                    flags,
                ))?;
                positive(CMS_add_smimecap(info, capabilities.0))?;
                add_signing_time(info, signing_time)?;
            }
            for certificate in certificates {
                positive(CMS_add1_cert(cms.as_ptr(), certificate.as_ptr()))?;
            }
            let chain = Chain::own(CMS_dataInit(cms.as_ptr(), ptr::null_mut()))?;
            Ok(Self { chain, cms })
        }
    }

    /// Takes the next octets of the content.
    pub(super) fn update(&mut self, octets: &[u8]) -> Result<(), ErrorStack> {
        self.chain.write_all(octets)
    }

    /// Signs, and gives the SignedData in DER form.
    pub(super) fn finish(self) -> Result<Vec<u8>, ErrorStack> {
        self.chain.flush()?;
        // SAFETY: the chain was made for this CMS.
        positive(unsafe { CMS_dataFinal(self.cms.as_ptr(), self.chain.as_ptr()) })?;
        self.cms.to_der()
    }
}

/// # Safety
/// `info` must belong to a live CMS.
unsafe fn add_signing_time(
    info: *mut SignerInfoPtr,
    signing_time: Timestamp,
) -> Result<(), ErrorStack> {
    // SAFETY: ASN1_TIME_set chooses UTCTime through 2049 (SM-18); the attribute takes a copy.
    unsafe {
        let time = not_null(sys::ASN1_TIME_set(
            ptr::null_mut(),
            signing_time.as_second() as _,
        ))?;
        let kind = sys::ASN1_STRING_type(time.cast());
        let nid = Nid::PKCS9_SIGNINGTIME.as_raw();
        let result = CMS_signed_add1_attr_by_NID(info, nid, kind, time.cast(), -1);
        sys::ASN1_TIME_free(time);
        positive(result)
    }
}

/// How a content key is wrapped for the recipients of an envelope.
pub(super) struct RecipientOptions {
    /// RSAES-OAEP with SHA-256 in place of RSA PKCS#1 v1.5.
    pub(super) oaep: bool,
    /// Name the certificate by subjectKeyIdentifier.
    pub(super) by_key_id: bool,
}

/// Why an envelope could not be written.
pub(super) enum EnvelopeError {
    /// OpenSSL failed.
    Library(ErrorStack),
    /// The target refused the octets.
    Sink(io::Error),
}

/// Where an envelope's octets go, as the BIO callback sees it.
struct Sink<'w> {
    out: &'w mut dyn Write,
    error: Option<io::Error>,
    panic: Option<Box<dyn Any + Send>>,
}

/// Makes an EnvelopedData (or AuthEnvelopedData, for GCM) that is encrypted and written while its content comes.
pub(super) struct EnvelopeWriter<'w> {
    /// `None` only while it is being taken apart.
    chain: Option<Chain>,
    _cms: Cms,
    sink: *mut Sink<'w>,
}

impl<'w> EnvelopeWriter<'w> {
    /// Begins an envelope for `recipients`, whose octets go to `out` in blocks.
    pub(super) fn new(
        out: &'w mut dyn Write,
        recipients: &[&X509Ref],
        cipher: Cipher,
        options: &RecipientOptions,
    ) -> Result<Self, ErrorStack> {
        let flags = CMS_PARTIAL | CMS_BINARY | CMS_STREAM;
        // SAFETY: CMS_encrypt without recipients and content makes an empty envelope, which is owned at once.
        let cms = Cms::own(unsafe {
            sys::CMS_encrypt(ptr::null_mut(), ptr::null_mut(), cipher.as_ptr(), flags)
        })?;
        for recipient in recipients {
            add_recipient(&cms, recipient, options)?;
        }
        let end = sink_bio()?;
        let sink = Box::into_raw(Box::new(Sink {
            out,
            error: None,
            panic: None,
        }));
        // From here on the writer frees the sink, whatever fails.
        let mut writer = Self {
            chain: None,
            _cms: cms,
            sink,
        };
        // SAFETY: the sink outlives the chain: `drop` frees the chain first. BIO_new_CMS begins to write only with the
        // first content. It puts its own BIOs before `end` and gives the head; when it fails, `end` stays ours.
        unsafe {
            sys::BIO_set_data(end.as_ptr(), sink.cast());
            sys::BIO_set_init(end.as_ptr(), 1);
            let head = not_null(BIO_new_CMS(end.as_ptr(), writer._cms.as_ptr()))?;
            std::mem::forget(end);
            writer.chain = Some(Chain::own(head)?);
        }
        Ok(writer)
    }

    /// Encrypts and writes the next octets of the content.
    pub(super) fn update(&mut self, octets: &[u8]) -> Result<(), EnvelopeError> {
        let result = self.chain.as_ref().map(|chain| chain.write_all(octets));
        self.settle(result.unwrap_or_else(|| Err(ErrorStack::get())))
    }

    /// Writes the end of the envelope.
    pub(super) fn finish(mut self) -> Result<(), EnvelopeError> {
        let result = self.chain.as_ref().map(Chain::flush);
        self.settle(result.unwrap_or_else(|| Err(ErrorStack::get())))
    }

    /// Prefers the target's own error, or panic, to what OpenSSL made of it.
    fn settle(&mut self, result: Result<(), ErrorStack>) -> Result<(), EnvelopeError> {
        // SAFETY: the sink is valid until `drop`, and no callback runs now.
        let sink = unsafe { &mut *self.sink };
        if let Some(panic) = sink.panic.take() {
            resume_unwind(panic);
        }
        match sink.error.take() {
            Some(error) => Err(EnvelopeError::Sink(error)),
            None => result.map_err(EnvelopeError::Library),
        }
    }
}

impl Drop for EnvelopeWriter<'_> {
    fn drop(&mut self) {
        // The chain first: it points to the CMS and to the sink.
        self.chain = None;
        // SAFETY: made by Box::into_raw, freed once.
        drop(unsafe { Box::from_raw(self.sink) });
    }
}

fn add_recipient(
    cms: &Cms,
    recipient: &X509Ref,
    options: &RecipientOptions,
) -> Result<(), ErrorStack> {
    let by_key_id = if options.by_key_id { CMS_USE_KEYID } else { 0 };
    let flags = CMS_BINARY | CMS_KEY_PARAM | by_key_id;
    // SAFETY: the RecipientInfo belongs to the CMS, which outlives this call; the certificate is only counted up.
    unsafe {
        let info = not_null(CMS_add1_recipient_cert(
            cms.as_ptr(),
            recipient.as_ptr(),
            flags,
        ))?;
        let context = not_null(CMS_RecipientInfo_get0_pkey_ctx(info))?;
        if CMS_RecipientInfo_type(info) == RECIPIENT_AGREEMENT {
            // OpenSSL would take the SHA-1 KDF; the key wrap follows the content cipher by itself (SM-5, SM-75).
            let bits = recipient.public_key()?.bits();
            let digest = if bits > 256 {
                Md::sha384()
            } else {
                Md::sha256()
            };
            positive(EVP_PKEY_CTX_set_ecdh_kdf_md(context, digest.as_ptr()))
        } else if options.oaep {
            let context = PkeyCtxRef::<()>::from_ptr_mut(context);
            context.set_rsa_padding(Padding::PKCS1_OAEP)?;
            context.set_rsa_oaep_md(Md::sha256())
        } else {
            Ok(())
        }
    }
}

/// A new BIO that writes to a [`Sink`], not yet tied to one.
fn sink_bio() -> Result<Chain, ErrorStack> {
    struct Method(*mut sys::BIO_METHOD);
    // SAFETY: a finished BIO_METHOD is never changed and never freed.
    unsafe impl Send for Method {}
    // SAFETY: as above.
    unsafe impl Sync for Method {}
    static METHOD: OnceLock<Method> = OnceLock::new();

    let method = METHOD.get_or_init(|| {
        // SAFETY: the name is a C string that lives for ever; the callbacks have the types that OpenSSL asks for.
        unsafe {
            let kind = BIO_get_new_index() | BIO_TYPE_SOURCE_SINK;
            let method = sys::BIO_meth_new(kind, c"xdbridge sink".as_ptr());
            if !method.is_null() {
                sys::BIO_meth_set_write__fixed_rust(method, Some(sink_write));
                sys::BIO_meth_set_ctrl__fixed_rust(method, Some(sink_ctrl));
            }
            Method(method)
        }
    });
    not_null(method.0)?;
    // SAFETY: the method is valid; the BIO is owned at once.
    Chain::own(unsafe { sys::BIO_new(method.0) })
}

/// BIO callback: hands octets to the Rust writer. Gives -1 on failure; a panic is carried over the C frames.
unsafe extern "C" fn sink_write(bio: *mut sys::BIO, data: *const c_char, length: c_int) -> c_int {
    // SAFETY: the data pointer was set to a live Sink before the first write, and only one thread uses the chain.
    let Some(sink) = (unsafe { sys::BIO_get_data(bio).cast::<Sink<'_>>().as_mut() }) else {
        return -1;
    };
    let Ok(bytes) = usize::try_from(length) else {
        return -1;
    };
    if data.is_null() || sink.error.is_some() || sink.panic.is_some() {
        return -1;
    }
    // SAFETY: OpenSSL gives `length` readable octets.
    let octets = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) };
    match catch_unwind(AssertUnwindSafe(|| sink.out.write_all(octets))) {
        Ok(Ok(())) => length,
        Ok(Err(error)) => {
            sink.error = Some(error);
            -1
        }
        Err(panic) => {
            sink.panic = Some(panic);
            -1
        }
    }
}

/// BIO callback: a flush always succeeds, since the owner of the writer flushes it; nothing else is known.
unsafe extern "C" fn sink_ctrl(
    _bio: *mut sys::BIO,
    command: c_int,
    _number: c_long,
    _pointer: *mut c_void,
) -> c_long {
    c_long::from(command == BIO_CTRL_FLUSH)
}

/// The members of a stack that belongs to somebody else; null is an empty one.
///
/// # Safety
/// `stack` must be null or a live stack whose members are `T`.
unsafe fn members<T>(stack: *mut sys::OPENSSL_STACK) -> Vec<*mut T> {
    // SAFETY: a null stack has -1 members; an index below the count is valid.
    unsafe {
        (0..sys::OPENSSL_sk_num(stack))
            .map(|index| sys::OPENSSL_sk_value(stack, index).cast())
            .collect()
    }
}

/// # Safety
/// `algorithm` must be null or live.
unsafe fn algorithm_nid(algorithm: *const sys::X509_ALGOR) -> Nid {
    if algorithm.is_null() {
        return Nid::UNDEF;
    }
    let mut object = ptr::null();
    // SAFETY: the other two results are not wanted, which null says.
    unsafe {
        sys::X509_ALGOR_get0(&mut object, ptr::null_mut(), ptr::null_mut(), algorithm);
        Nid::from_raw(sys::OBJ_obj2nid(object))
    }
}

/// A CMS that was received. [`super::ber::survey`] comes first: it counts the parts.
pub(super) struct CmsReader {
    cms: Cms,
}

impl CmsReader {
    /// Parses BER.
    pub(super) fn from_ber(cms: &[u8]) -> Result<Self, ErrorStack> {
        let length = c_long::try_from(cms.len()).map_err(|_| ErrorStack::get())?;
        let mut start = cms.as_ptr();
        // SAFETY: `start` is valid for `length` octets; OpenSSL moves it over what it reads, and copies.
        let pointer = unsafe { sys::d2i_CMS_ContentInfo(ptr::null_mut(), &mut start, length) };
        Ok(Self {
            cms: Cms::own(pointer)?,
        })
    }

    /// The algorithm of the RecipientInfo that names `certificate`: of the key transport, or of the key agreement.
    pub(super) fn recipient_algorithm(&self, certificate: &X509Ref) -> Option<Nid> {
        // SAFETY: RecipientInfos live as long as the CMS; each call fits the kind that was asked before.
        unsafe {
            for info in members::<RecipientInfoPtr>(CMS_get0_RecipientInfos(self.cms.as_ptr())) {
                let mut algorithm = ptr::null_mut();
                match CMS_RecipientInfo_type(info) {
                    RECIPIENT_TRANSPORT
                        if CMS_RecipientInfo_ktri_cert_cmp(info, certificate.as_ptr()) == 0 =>
                    {
                        let null = ptr::null_mut();
                        CMS_RecipientInfo_ktri_get0_algs(
                            info,
                            null,
                            ptr::null_mut(),
                            &mut algorithm,
                        );
                        return Some(algorithm_nid(algorithm));
                    }
                    RECIPIENT_AGREEMENT if is_among_keys(info, certificate) => {
                        CMS_RecipientInfo_kari_get0_alg(info, &mut algorithm, ptr::null_mut());
                        return Some(algorithm_nid(algorithm));
                    }
                    _ => {}
                }
            }
            None
        }
    }

    /// Begins to decrypt the content for the owner of `certificate`: what [`Decryption::update`] brings, or the content
    /// inside if `is_inside`. `None` for every kind of failure (SM-38): a wrong key gives a random content key first, so
    /// that it fails where bad content fails.
    pub(super) fn decryption<'c>(
        &'c self,
        certificate: &X509Ref,
        key: &PKeyRef<Private>,
        is_inside: bool,
        size_hint: usize,
    ) -> Option<Decryption<'c>> {
        // SAFETY: key and certificate are only borrowed for the call. CMS_dataInit takes the source into the chain,
        // which is owned at once and dropped before the CMS; when that fails, the source is still ours.
        let begun = unsafe {
            let cms = self.cms.as_ptr();
            positive(CMS_decrypt_set1_pkey(
                cms,
                key.as_ptr(),
                certificate.as_ptr(),
            ))
            .and_then(|()| {
                let source = match is_inside {
                    true => None,
                    false => Some(Chain::own(sys::BIO_new(sys::BIO_s_mem()))?),
                };
                let source_ptr = source.as_ref().map_or(ptr::null_mut(), Chain::as_ptr);
                let chain = Chain::own(CMS_dataInit(cms, source_ptr))?;
                std::mem::forget(source);
                Ok((chain, NonNull::new(source_ptr)))
            })
        };
        // What OpenSSL has to say must not reach anybody, nor the next call's error.
        drop(ErrorStack::get());
        let (chain, source) = begun.ok()?;
        Some(Decryption {
            chain,
            source,
            content: Vec::with_capacity(size_hint),
            block: vec![0; BLOCK_BYTES],
            has_failed: false,
            _cms: PhantomData,
        })
    }

    /// The certificates that were sent along.
    pub(super) fn certificates(&self) -> Vec<X509> {
        // SAFETY: the stack and its members are ours, and null means that there are none.
        unsafe {
            let stack = CMS_get1_certs(self.cms.as_ptr());
            if stack.is_null() {
                Vec::new()
            } else {
                Stack::<X509>::from_ptr(stack).into_iter().collect()
            }
        }
    }

    /// Whether the content type inside is id-data (SM-14).
    pub(super) fn is_over_data(&self) -> bool {
        // SAFETY: the object belongs to the CMS.
        let nid = unsafe { sys::OBJ_obj2nid(CMS_get0_eContentType(self.cms.as_ptr())) };
        nid == Nid::PKCS7_DATA.as_raw()
    }

    /// Whether the content is inside.
    pub(super) fn has_content(&self) -> bool {
        // SAFETY: gives null, or a place that holds null or the content.
        unsafe {
            let place = CMS_get0_content(self.cms.as_ptr());
            !place.is_null() && !(*place).is_null()
        }
    }

    /// Computes the digests of the content: of `detached`, or of the content inside, which is given back then.
    pub(super) fn digest<'a>(
        &'a self,
        detached: Option<&'a [u8]>,
    ) -> Result<(ContentDigests<'a>, Vec<u8>), ErrorStack> {
        let mut content = Vec::new();
        // SAFETY: a memory BIO over `detached` only reads it, and lives no longer than 'a. CMS_dataInit takes it into
        // the chain, which is owned at once; when that fails, the BIO is still ours.
        let chain = unsafe {
            let source = detached.map(memory_bio).transpose()?;
            let source_ptr = source.as_ref().map_or(ptr::null_mut(), Chain::as_ptr);
            let chain = Chain::own(CMS_dataInit(self.cms.as_ptr(), source_ptr))?;
            std::mem::forget(source);
            chain
        };
        chain.read_all(|block| {
            if detached.is_none() {
                content.extend_from_slice(block);
            }
        })?;
        let digests = ContentDigests {
            chain,
            _content: PhantomData,
        };
        Ok((digests, content))
    }

    /// The SignerInfos.
    pub(super) fn signers(&self) -> Vec<ReceivedSigner<'_>> {
        // SAFETY: SignerInfos live as long as the CMS.
        let infos = unsafe { members(CMS_get0_SignerInfos(self.cms.as_ptr())) };
        infos
            .into_iter()
            .map(|info| ReceivedSigner {
                info,
                _cms: PhantomData,
            })
            .collect()
    }
}

/// A content on its way through the cipher. Nothing of it is given before its end was seen.
pub(super) struct Decryption<'c> {
    chain: Chain,
    /// The end of the chain that the cipher reads from, where the content is not inside the CMS.
    source: Option<NonNull<sys::BIO>>,
    content: Vec<u8>,
    block: Vec<u8>,
    has_failed: bool,
    _cms: PhantomData<&'c CmsReader>,
}

impl Decryption<'_> {
    /// Takes more of the encrypted content. What goes wrong is told at the end.
    pub(super) fn update(&mut self, octets: &[u8]) {
        for block in octets.chunks(BLOCK_BYTES) {
            let length = c_int::try_from(block.len()).unwrap_or(c_int::MAX);
            let source = self.source.map_or(ptr::null_mut(), NonNull::as_ptr);
            // SAFETY: the source lives as long as its chain; OpenSSL copies. A memory BIO takes all or nothing.
            let written = unsafe { sys::BIO_write(source, block.as_ptr().cast(), length) };
            self.has_failed |= written != length;
            self.drain();
        }
    }

    /// Takes what the cipher gives; the last result is that of [`sys::BIO_read`] where there is no more.
    fn drain(&mut self) -> c_int {
        let length = c_int::try_from(self.block.len()).unwrap_or(c_int::MAX);
        loop {
            // SAFETY: OpenSSL writes `length` octets at the most.
            let read = unsafe {
                sys::BIO_read(self.chain.as_ptr(), self.block.as_mut_ptr().cast(), length)
            };
            match usize::try_from(read) {
                Ok(read) if read > 0 => {
                    let octets = self.block.get(..read).unwrap_or_default();
                    self.content.extend_from_slice(octets);
                }
                _ => return read,
            }
        }
    }

    /// The content, if all of it could be decrypted.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        if let Some(source) = self.source {
            // SAFETY: the source is a live memory BIO. From here on it has an end; before, more could come.
            unsafe {
                sys::BIO_ctrl(
                    source.as_ptr(),
                    BIO_C_SET_BUF_MEM_EOF_RETURN,
                    0,
                    ptr::null_mut(),
                )
            };
        }
        // The end is seen only once the cipher was closed, and only this tells whether padding, or the GCM tag, was right.
        let has_ended = self.drain() == 0;
        // SAFETY: the question takes no argument.
        let status = unsafe {
            sys::BIO_ctrl(
                self.chain.as_ptr(),
                BIO_C_GET_CIPHER_STATUS,
                0,
                ptr::null_mut(),
            )
        };
        // What OpenSSL has to say must not reach anybody, nor the next call's error.
        drop(ErrorStack::get());
        (has_ended && status > 0 && !self.has_failed).then_some(self.content)
    }
}

/// # Safety
/// `info` must be a live KeyAgreeRecipientInfo.
unsafe fn is_among_keys(info: *mut RecipientInfoPtr, certificate: &X509Ref) -> bool {
    // SAFETY: the keys live as long as the RecipientInfo.
    unsafe {
        members::<RecipientKeyPtr>(CMS_RecipientInfo_kari_get0_reks(info))
            .into_iter()
            .any(|key| CMS_RecipientEncryptedKey_cert_cmp(key, certificate.as_ptr()) == 0)
    }
}

/// A BIO that reads `octets`, which must outlive it.
fn memory_bio(octets: &[u8]) -> Result<Chain, ErrorStack> {
    let length = c_int::try_from(octets.len()).map_err(|_| ErrorStack::get())?;
    // SAFETY: the BIO is owned at once; it only reads.
    Chain::own(unsafe { sys::BIO_new_mem_buf(octets.as_ptr().cast(), length) })
}

/// The digests of a content, for [`ReceivedSigner::verify`].
pub(super) struct ContentDigests<'a> {
    chain: Chain,
    _content: PhantomData<&'a [u8]>,
}

/// One SignerInfo of a received CMS.
pub(super) struct ReceivedSigner<'c> {
    info: *mut SignerInfoPtr,
    _cms: PhantomData<&'c CmsReader>,
}

impl ReceivedSigner<'_> {
    /// Whether the signer names `certificate`, by issuer and serial number or by key identifier (SM-15).
    pub(super) fn names(&self, certificate: &X509Ref) -> bool {
        // SAFETY: both are live.
        unsafe { CMS_SignerInfo_cert_cmp(self.info, certificate.as_ptr()) == 0 }
    }

    /// The digest and the signature algorithm.
    pub(super) fn algorithms(&self) -> (Nid, Nid) {
        let (mut digest, mut signature) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the results belong to the SignerInfo; null says what is not wanted.
        unsafe {
            CMS_SignerInfo_get0_algs(
                self.info,
                ptr::null_mut(),
                ptr::null_mut(),
                &mut digest,
                &mut signature,
            );
            (algorithm_nid(digest), algorithm_nid(signature))
        }
    }

    /// Whether there are signed attributes at all (SM-21).
    pub(super) fn has_attributes(&self) -> bool {
        // SAFETY: the SignerInfo is live.
        unsafe { CMS_signed_get_attr_count(self.info) > 0 }
    }

    /// Whether the attributes contentType = id-data and messageDigest are there, each once with one value (SM-17,
    /// SM-20).
    pub(super) fn has_required_attributes(&self) -> bool {
        let content_type = self.attribute(Nid::PKCS9_CONTENTTYPE, sys::V_ASN1_OBJECT);
        let digest = self.attribute(Nid::PKCS9_MESSAGEDIGEST, sys::V_ASN1_OCTET_STRING);
        // SAFETY: the value was asked for as an object; null gives 0.
        let content_type = unsafe { sys::OBJ_obj2nid(content_type.cast()) };
        content_type == Nid::PKCS7_DATA.as_raw() && !digest.is_null()
    }

    /// The signingTime attribute; `None` when it is absent or cannot be read (SM-18).
    pub(super) fn signing_time(&self) -> Option<Timestamp> {
        let utc = self.attribute(Nid::PKCS9_SIGNINGTIME, sys::V_ASN1_UTCTIME);
        let general = self.attribute(Nid::PKCS9_SIGNINGTIME, sys::V_ASN1_GENERALIZEDTIME);
        let time = if utc.is_null() { general } else { utc };
        if time.is_null() {
            return None;
        }
        // SAFETY: both kinds are an ASN1_TIME, which belongs to the SignerInfo.
        super::certificate::timestamp(unsafe { Asn1TimeRef::from_ptr(time.cast()) })
    }

    /// The messageDigest attribute, if it is there once: what [`ReceivedSigner::verify`] holds the content against.
    pub(super) fn message_digest(&self) -> Option<&[u8]> {
        let digest = self.attribute(Nid::PKCS9_MESSAGEDIGEST, sys::V_ASN1_OCTET_STRING);
        // SAFETY: the value was asked for as an octet string, which belongs to the SignerInfo.
        let digest = NonNull::new(digest)
            .map(|digest| unsafe { Asn1OctetStringRef::from_ptr(digest.as_ptr().cast()) });
        digest.map(Asn1OctetStringRef::as_slice)
    }

    /// The value of a signed attribute that occurs once, with one value of this type; null else.
    fn attribute(&self, nid: Nid, value_type: c_int) -> *mut c_void {
        /// `lastpos` that asks for one attribute with one value.
        const EXACTLY_ONE: c_int = -3;
        // SAFETY: the result belongs to the SignerInfo.
        unsafe {
            let kind = sys::OBJ_nid2obj(nid.as_raw());
            CMS_signed_get0_data_by_OBJ(self.info, kind, EXACTLY_ONE, value_type)
        }
    }

    /// Whether `certificate`'s key verifies the signature, and the content has the digest that was signed.
    pub(super) fn verify(&self, certificate: &X509Ref, digests: &ContentDigests<'_>) -> bool {
        // SAFETY: the certificate is only counted up by the SignerInfo; the chain was made for the same CMS.
        let is_good = unsafe {
            CMS_SignerInfo_set1_signer_cert(self.info, certificate.as_ptr());
            (!self.has_attributes() || CMS_SignerInfo_verify(self.info) > 0)
                && CMS_SignerInfo_verify_content(self.info, digests.chain.as_ptr()) > 0
        };
        // A failure of one signer is no error of the next call.
        drop(ErrorStack::get());
        is_good
    }
}
