//! What is replaced before a colony's data leave it, in words: what does it and what tells of it say the
//! same.

/// Name of each rule, and what it replaces.
pub const RULES: [(&str, &str); 7] = [
    (
        "secret",
        "values of attributes, and of name=value in texts, whose name holds authorization, cookie, password, \
         passwd, pwd, passphrase, secret, token, api key, access key, private key, credential, signature or \
         session id",
    ),
    ("sql", "literals in db.statement and db.query.text, values of db.query.parameter.*"),
    ("email", "e-mail addresses"),
    (
        "bearer",
        "bearer and basic credentials, JSON Web Tokens, private keys, keys of well-known services",
    ),
    ("card", "13 to 19 digits that pass the check of payment cards (Luhn)"),
    ("query", "values in the query part of URLs, and user:password before a host"),
    ("asked", "values of attributes named with --redact-more key=NAME"),
];
