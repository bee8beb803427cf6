"""The kinds of resources of the API that is like Mangopay's, as a table: where each is found, and what is in it."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from proxy.sandbox.input import Input, Json


class Kind(NamedTuple):
    """One kind of resource: where it is listed, where it is created, and its members with their defaults."""

    collection: str
    creation: str
    members: Json

    def make(self, given: Input, number: str) -> Json:
        """A resource, out of the members that are given and the defaults."""
        made = {
            "Id": number,
            "Tag": given.text("Tag", None),
            "CreationDate": int(time.time()),
            **{name: READERS.get(name, usually)(given, name, usual) for name, usual in self.members.items()},
        }
        if "DebitedFunds" in made:
            (currency, debited), (fees_currency, fees) = given.money("DebitedFunds"), given.money("Fees")
            if fees > debited:
                given.errors["Fees"] = "must not be more than DebitedFunds"
            made["DebitedFunds"] = {"Currency": currency, "Amount": debited}
            made["CreditedFunds"] = {"Currency": currency, "Amount": debited - fees}
            made["Fees"] = {"Currency": fees_currency, "Amount": fees}
        if "Balance" in made:
            made["Balance"] = {"Currency": made["Currency"], "Amount": 0}
        return made


def usually(_given: Input, _name: str, usual: object) -> object:
    """The reader of a member that no request may set."""
    return usual


TEXTS = (
    *("AuthorId", "CreditedUserId", "DebitedWalletId", "CreditedWalletId", "BankAccountId", "BankWireRef"),
    *("Description", "Currency", "FirstName", "LastName", "Email", "Nationality", "CountryOfResidence", "UserCategory"),
)
READERS: Mapping[str, Callable[[Input, str, object], object]] = {
    **dict.fromkeys(TEXTS, Input.text),
    "Owners": Input.owners,
    "Amount": Input.amount,
}
"""The members that a request may set, besides money."""
KINDS = (
    Kind(
        "payouts",
        "payouts/bankwire",
        orjson.loads(
            '{"AuthorId":null,"CreditedUserId":null,"DebitedFunds":null,"CreditedFunds":null,"Fees":null,'
            '"Status":"CREATED","ResultCode":null,"ResultMessage":null,"ExecutionDate":null,"Type":"PAYOUT",'
            '"Nature":"REGULAR","CreditedWalletId":null,"DebitedWalletId":null,"PaymentType":"BANK_WIRE",'
            '"BankAccountId":null,"BankWireRef":null}'
        ),
    ),
    Kind(
        "transfers",
        "transfers",
        orjson.loads(
            '{"AuthorId":null,"CreditedUserId":null,"DebitedFunds":null,"CreditedFunds":null,"Fees":null,'
            '"Status":"CREATED","ResultCode":null,"ResultMessage":null,"ExecutionDate":null,"Type":"TRANSFER",'
            '"Nature":"REGULAR","CreditedWalletId":null,"DebitedWalletId":null}'
        ),
    ),
    Kind(
        "wallets",
        "wallets",
        orjson.loads('{"Owners":[],"Description":null,"Balance":null,"Currency":"EUR","FundsType":"DEFAULT"}'),
    ),
    Kind(
        "users",
        "users/natural",
        orjson.loads(
            '{"PersonType":"NATURAL","FirstName":null,"LastName":null,"Email":null,"Nationality":null,'
            '"CountryOfResidence":null,"UserCategory":"PAYER","KYCLevel":"LIGHT","UserStatus":"ACTIVE"}'
        ),
    ),
    Kind(
        "payins/intents",
        "payins/intents",
        orjson.loads('{"Amount":0,"Currency":"EUR","Status":"AUTHORIZED"}'),
    ),
)
