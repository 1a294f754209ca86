"""The API as an OpenAPI 3.1 document, made of the models that requests are checked with and the table of errors."""
