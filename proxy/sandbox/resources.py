"""The kinds of resources, as a table: where each is found, and what is in it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from proxy.sandbox.input import Input, Json


class Kind(NamedTuple):
    """One kind of resource: where it is listed, where it is created, and its members with their defaults."""

    collection: str
    creation: str
    members: Json

    def make(self, given: Input) -> Json:
        """The resource's own members, out of those given and the defaults."""
        made = {
            name: READERS[name](given, name, usual) if name in READERS else usual
            for name, usual in self.members.items()
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


TEXTS = (
    *("AuthorId", "CreditedUserId", "DebitedWalletId", "CreditedWalletId", "BankAccountId", "BankWireRef"),
    *("Description", "Currency", "FirstName", "LastName", "Email", "Nationality", "CountryOfResidence", "UserCategory"),
)
READERS: Mapping[str, Callable[[Input, str, object], object]] = {
    **dict.fromkeys(TEXTS, Input.text),
    "Owners": Input.owners,
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
)
