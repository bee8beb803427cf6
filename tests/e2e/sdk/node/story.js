// What a client of Mangopay does with the official SDK for Node, as it is. It prints what the SDK gave it, as JSON:
// tests/e2e/sdk/test_mangopay_node.py says what it should have been.
//
//     node story.js BASE_URL KEY ANOTHER_KEY

const Mangopay = require('mangopay4-nodejs-sdk');

const [baseUrl, key, anotherKey] = process.argv.slice(2);
const options = (own) => ({headers: {'Idempotency-Key': own}});
const money = (amount) => ({Amount: amount, Currency: 'EUR'});

/** What the SDK rejects with, and the status, which it tells to a callback alone. */
async function refused(call) {
    let status = null;
    const callback = (_body, response) => {
        status = response.status;
    };
    try {
        await call(callback);
    } catch (body) {
        return {status, body};
    }
    return null;
}

async function story() {
    const api = new Mangopay({clientId: 'acme', clientApiKey: 'secret', baseUrl, errorHandler: () => {}});
    const bearer = () => api.requestOptions.headers.Authorization;
    const said = {};

    said.user = await api.Users.create(
        new api.models.UserNatural({FirstName: 'Joe', LastName: 'Doe', Email: 'joe@example.com', UserCategory: 'PAYER'})
    );
    said.wallet = await api.Wallets.create({Owners: [said.user.Id], Description: 'Mine', Currency: 'EUR'});
    const transfer = () => ({
        AuthorId: said.user.Id,
        DebitedFunds: money(1000),
        Fees: money(100),
        DebitedWalletId: said.wallet.Id,
        CreditedWalletId: said.wallet.Id
    });
    said.transfer = await api.Transfers.create(transfer(), null, options(key));
    said.read = await api.Transfers.get(said.transfer.Id);

    said.conflict = await refused((callback) => api.Transfers.create(transfer(), callback, options(key)));
    said.shown = await api.Idempotency.get(key);
    const first = bearer();
    await api.authorize();
    said.rotated = first !== bearer();
    said.conflictAfterRotation = await refused((callback) => api.Transfers.create(transfer(), callback, options(key)));
    said.shownAfterRotation = await api.Idempotency.get(key);
    said.unknown = await refused((callback) => api.Idempotency.get(anotherKey, callback));

    said.intent = await api.PayIns.createPayInIntentAuthorization(money(2000), null, options(anotherKey));
    said.intentShown = await api.Idempotency.get(anotherKey);
    return said;
}

story().then(
    (said) => console.log(JSON.stringify(said)),
    (error) => {
        console.error(error);
        process.exitCode = 1;
    }
);
