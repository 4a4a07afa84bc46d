/* An EHR as gSOAP makes one of our WSDL: it submits two documents by MTOM over mutual TLS and prints the answer.
 *
 *     client URL CA.pem IDENTITY.pem DOCUMENT1 DOCUMENT2 TIME [FROM TO...]
 *
 * IDENTITY.pem holds certificate and key. TIME is the submissionTime, so that a bad one can be sent. With FROM and TO
 * it sends a direct:addressBlock and the metadata-level; without, the metadata alone says who sends to whom.
 * It prints the status and then, for each RegistryError, its code; or the fault's code and reason; and to which message
 * the answer relates. */

#include "soapH.h"
#include "service.nsmap"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACTION "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
#define ANONYMOUS "http://www.w3.org/2005/08/addressing/anonymous"

typedef struct rim__SlotType Slot;
typedef struct rim__ClassificationType Classification;
typedef struct rim__ExternalIdentifierType Identifier;

static struct soap *soap;

static void *room(size_t size)
{
    void *found = soap_malloc(soap, size);
    if (!found) {
        fputs("out of memory\n", stderr);
        exit(3);
    }
    return memset(found, 0, size);
}

static Slot slot(const char *name, const char *value)
{
    Slot made;
    memset(&made, 0, sizeof made);
    made.name = (char *)name;
    made.ValueList = room(sizeof *made.ValueList);
    made.ValueList->__sizeValue = 1;
    made.ValueList->Value_ = room(sizeof(char *));
    made.ValueList->Value_[0] = (char *)value;
    return made;
}

static Classification label(const char *id, const char *object, const char *node)
{
    Classification made;
    memset(&made, 0, sizeof made);
    made.id = (char *)id;
    made.classifiedObject = (char *)object;
    made.classificationNode = (char *)node;
    return made;
}

static Classification author(const char *id, const char *object, const char *telecommunication)
{
    Classification made = label(id, object, NULL);
    made.classificationScheme = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d";
    made.nodeRepresentation = "";
    made.__sizeSlot = 1;
    made.Slot_ = room(sizeof(Slot));
    made.Slot_[0] = slot("authorTelecommunication", telecommunication);
    return made;
}

static Identifier identifier(const char *id, const char *object, const char *scheme, const char *name, const char *value)
{
    Identifier made;
    memset(&made, 0, sizeof made);
    made.id = (char *)id;
    made.registryObject = (char *)object;
    made.identificationScheme = (char *)scheme;
    made.value = (char *)value;
    made.Name = room(sizeof *made.Name);
    made.Name->__sizeLocalizedString = 1;
    made.Name->LocalizedString_ = room(sizeof *made.Name->LocalizedString_);
    made.Name->LocalizedString_[0].value = (char *)name;
    return made;
}

static char *joined(const char *one, const char *other)
{
    size_t length = strlen(one) + strlen(other) + 1;
    char *made = room(length);
    snprintf(made, length, "%s%s", one, other);
    return made;
}

static struct rim__ExtrinsicObjectType *entry(const char *id, const char *mime_type, const char *unique_id)
{
    struct rim__ExtrinsicObjectType *made = room(sizeof *made);
    made->id = (char *)id;
    made->mimeType = (char *)mime_type;
    made->objectType = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1";
    made->__sizeClassification = 1;
    made->Classification_ = room(sizeof(Classification));
    made->Classification_[0] = label(joined(id, ".limited"), id, "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85");
    made->__sizeExternalIdentifier = 1;
    made->ExternalIdentifier_ = room(sizeof(Identifier));
    made->ExternalIdentifier_[0] = identifier(joined(id, ".uniqueId"), id, "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab",
        "XDSDocumentEntry.uniqueId", unique_id);
    return made;
}

static struct rim__RegistryPackageType *submission_set(const char *unique_id, const char *time)
{
    struct rim__RegistryPackageType *made = room(sizeof *made);
    made->id = "Set01";
    made->__sizeSlot = 2;
    made->Slot_ = room(2 * sizeof(Slot));
    made->Slot_[0] = slot("intendedRecipient", "||^^Internet^rui.silva@direct.harbor.example");
    made->Slot_[1] = slot("submissionTime", time);
    made->__sizeClassification = 3;
    made->Classification_ = room(3 * sizeof(Classification));
    made->Classification_[0] = author("cl1", "Set01", "^^Internet^ngozi.okafor@direct.elm.example");
    made->Classification_[1] = label("cl2", "Set01", "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd");
    made->Classification_[2] = label("cl3", "Set01", "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707");
    made->__sizeExternalIdentifier = 2;
    made->ExternalIdentifier_ = room(2 * sizeof(Identifier));
    made->ExternalIdentifier_[0] = identifier("ei1", "Set01", "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",
        "XDSSubmissionSet.sourceId", "2.999.20");
    made->ExternalIdentifier_[1] = identifier("ei2", "Set01", "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8",
        "XDSSubmissionSet.uniqueId", unique_id);
    return made;
}

static struct rim__AssociationType *member(const char *id, const char *entry_id)
{
    struct rim__AssociationType *made = room(sizeof *made);
    made->id = (char *)id;
    made->associationType = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember";
    made->sourceObject = "Set01";
    made->targetObject = (char *)entry_id;
    made->__sizeSlot = 1;
    made->Slot_ = room(sizeof(Slot));
    made->Slot_[0] = slot("SubmissionSetStatus", "Original");
    return made;
}

static struct xds__DocumentType document(const char *id, const char *path, const char *mime_type)
{
    struct xds__DocumentType made;
    long size;
    FILE *file = fopen(path, "rb");
    memset(&made, 0, sizeof made);
    if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0 || fseek(file, 0, SEEK_SET)) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(3);
    }
    made.id = (char *)id;
    made.__item.__ptr = room((size_t)size + 1);
    made.__item.__size = (int)fread(made.__item.__ptr, 1, (size_t)size, file);
    fclose(file);
    /* What makes gSOAP write an xop:Include and a part of its own. */
    made.__item.id = soap_strdup(soap, soap_rand_uuid(soap, "cid:"));
    made.__item.type = (char *)mime_type;
    return made;
}

static void tell_answer(const struct rs__RegistryResponseType *answer)
{
    int index;
    printf("status %s\n", answer->status);
    if (answer->RegistryErrorList)
        for (index = 0; index < answer->RegistryErrorList->__sizeRegistryError; index++)
            printf("error %s\n", answer->RegistryErrorList->RegistryError_[index].errorCode);
}

static struct direct__AddressBlockType *address_block(char *from, char **to, int count)
{
    struct direct__AddressBlockType *made = room(sizeof *made);
    made->SOAP_ENV__role = "urn:direct:addressing:destination";
    made->SOAP_ENV__relay = "true";
    made->from = from;
    made->__sizeto = count;
    made->to = to;
    return made;
}

int main(int count, char **arguments)
{
    struct xds__ProvideAndRegisterDocumentSetRequestType request;
    struct rs__RegistryResponseType answer;
    struct rim__RegistryObjectListType *list;
    char unique_id[64];
    int failed;

    if (count != 7 && count < 9) {
        fputs("client URL CA IDENTITY DOCUMENT1 DOCUMENT2 TIME [FROM TO...]\n", stderr);
        return 3;
    }
    soap_ssl_init();
    soap = soap_new1(SOAP_ENC_MTOM);
    soap_set_namespaces(soap, namespaces);
    soap->connect_timeout = soap->send_timeout = soap->recv_timeout = 30;
    if (soap_ssl_client_context(soap, SOAP_SSL_REQUIRE_SERVER_AUTHENTICATION, arguments[3], NULL, arguments[2], NULL, NULL)) {
        soap_print_fault(soap, stderr);
        return 3;
    }

    memset(&request, 0, sizeof request);
    memset(&answer, 0, sizeof answer);
    snprintf(unique_id, sizeof unique_id, "2.999.30.%lu", (unsigned long)soap_random & 0x7fffffffUL);

    list = room(sizeof *list);
    list->__size_RegistryObjectListType = 5;
    list->__union_RegistryObjectListType = room(5 * sizeof *list->__union_RegistryObjectListType);
#define OBJECT(place, kind, made)                                                                            \
    list->__union_RegistryObjectListType[place].__union_RegistryObjectListType =                             \
        SOAP_UNION__rim__union_RegistryObjectListType_##kind;                                                \
    list->__union_RegistryObjectListType[place].union_RegistryObjectListType.kind = made
    OBJECT(0, ExtrinsicObject, entry("Document01", "text/xml", "2.999.30.1"));
    OBJECT(1, ExtrinsicObject, entry("Document02", "application/pdf", "2.999.30.2"));
    OBJECT(2, RegistryPackage, submission_set(unique_id, arguments[6]));
    OBJECT(3, Association, member("as1", "Document01"));
    OBJECT(4, Association, member("as2", "Document02"));

    request.lcm__SubmitObjectsRequest = room(sizeof *request.lcm__SubmitObjectsRequest);
    request.lcm__SubmitObjectsRequest->rim__RegistryObjectList = list;
    request.__sizeDocument = 2;
    request.Document = room(2 * sizeof *request.Document);
    request.Document[0] = document("Document01", arguments[4], "text/xml");
    request.Document[1] = document("Document02", arguments[5], "application/pdf");

    soap_header(soap);
    soap->header->wsa5__Action = ACTION;
    soap->header->wsa5__MessageID = soap_strdup(soap, soap_rand_uuid(soap, "urn:uuid:"));
    soap->header->wsa5__To = arguments[1];
    soap->header->wsa5__ReplyTo = room(sizeof *soap->header->wsa5__ReplyTo);
    soap->header->wsa5__ReplyTo->Address = ANONYMOUS;
    if (count > 7) {
        soap->header->direct__addressBlock = address_block(arguments[7], arguments + 8, count - 8);
        soap->header->direct__metadata_level = "minimal";
    }
    printf("message %s\n", soap->header->wsa5__MessageID);

    failed = soap_call___xds__DocumentRepository_USCOREProvideAndRegisterDocumentSet_b(
        soap, arguments[1], NULL, &request, &answer);
    if (failed == SOAP_OK) {
        tell_answer(&answer);
    } else {
        soap_set_fault(soap);
        printf("fault %s\n", *soap_faultcode(soap) ? *soap_faultcode(soap) : "without code");
        printf("reason %s\n", *soap_faultstring(soap) ? *soap_faultstring(soap) : "without words");
        soap_print_fault(soap, stderr);
    }
    printf("relates %s\n",
        soap->header && soap->header->wsa5__RelatesTo ? soap->header->wsa5__RelatesTo->__item : "to nothing");
    soap_destroy(soap);
    soap_end(soap);
    soap_free(soap);
    return failed != SOAP_OK;
}
