// The Direct header blocks, by hand: the WSDL does not bind them, since whoever is bound to a header must always send it,
// and an addressBlock may be left out (SOAP-113).
//gsoap direct schema namespace: urn:direct:addressing
//gsoap direct schema elementForm: qualified
//gsoap direct schema attributeForm: unqualified

struct direct__AddressBlockType
{
    @char *SOAP_ENV__role 1;
    @char *SOAP_ENV__relay 1;
    char *from 1;
    $int __sizeto 1;
    char **to;
};

mutable struct SOAP_ENV__Header
{
    struct direct__AddressBlockType *direct__addressBlock 0;
    char *direct__metadata_level 0;
};
