package docket.approvals_test

import data.docket.approvals

settings := {"approvals": {"payments": {"limit": 100, "currency": "EUR", "tools": ["create_payment", "send_money"]}}}

call(tool, arguments) := {
	"subject": {"type": "identity", "id": "a"},
	"action": {"name": "tools/call"},
	"resource": {"type": "tool", "id": tool, "properties": {"server": "bank"}},
	"context": {"arguments": arguments},
}

pay(arguments) := call("create_payment", arguments)

denied(request) := rules if {
	rules := {diagnostic.rule | some diagnostic in approvals.deny} with input as request with data.settings as settings
}

held(request) := rules if {
	rules := {diagnostic.rule | some diagnostic in approvals.require_approval} with input as request with data.settings as settings
}

allowed(request) := rules if {
	rules := {reason.rule | some reason in approvals.allow} with input as request with data.settings as settings
}

passes(request) if {
	denied(request) == set()
	held(request) == set()
	allowed(request) == {"payment"}
}

test_up_to_the_limit if {
	every amount in [0, 1, 99.99, 100, "100", "99.50", "0"] {
		passes(pay({"amount": amount}))
	}

	passes(pay({"amount": 10, "currency": "eur"}))
	passes(pay({"amount": {"value": 10, "currency": "EUR"}}))
}

test_over_the_limit if {
	every amount in [100.01, 101, 1e9, "101", "100.01", 123456789012345678901234567890] {
		held(pay({"amount": amount})) == {"payment_over_limit"}
		allowed(pay({"amount": amount})) == {"payment"}
		denied(pay({"amount": amount})) == set()
	}
}

test_many_small_ones_are_one_large if {
	held(pay({"payments": [{"amount": 60}, {"amount": 60}]})) == {"payment_over_limit"}
	passes(pay({"amounts": [40, 60]}))
	held(call("send_money", {"amount": 500})) == {"payment_over_limit"}
	held(pay({"amounts": [60, 60]})) == {"payment_over_limit"}
	held(pay({"amount": 1, "total_amount": 500})) == {"payment_over_limit"}
	passes(pay({"payments": [{"amount": 40}, {"amount": 60}]}))
}

test_an_amount_that_cannot_be_meant if {
	every amount in ["NaN", "1e9", "1,000", "", "abc", "Infinity", "0x10", true, null, -1, "-5", "1 000", "١٠٠"] {
		denied(pay({"amount": amount})) == {"payment_amount"}
		allowed(pay({"amount": amount})) == set()
	}

	denied(pay({"amount": 5, "total": "much"})) == {"payment_amount"}
	denied(pay({"payments": [{"amount": 500}, {"amount": -450}]})) == {"payment_amount"}
}

test_no_amount_is_held if {
	every arguments in [{}, null, [], "x", 7, {"note": "5"}, {"amount": []}] {
		held(pay(arguments)) == {"payment_without_amount"}
		allowed(pay(arguments)) == set()
	}
}

test_another_currency_is_held if {
	every currency in ["USD", "", null, 7, ["EUR", "USD"], {"code": "EUR"}] {
		held(pay({"amount": 5, "currency": currency}))["payment_currency"]
	}

	held(pay({"amount": 5, "target_currency_code": "USD"})) == {"payment_currency"}
}

test_a_tool_of_any_name_that_pays if {
	every tool in ["payInvoice", "send-payment", "refund", "bank.transfer", "issue_payout", "purchase_item"] {
		held(call(tool, {"amount": 5000})) == {"payment_over_limit"}
		held(call(tool, {})) == {"payment_without_amount"}
		allowed(call(tool, {"amount": 5000})) == set()
		allowed(call(tool, {"amount": 5})) == set()
	}
}

test_other_tools_are_no_payments if {
	every tool in ["list_payments", "get_refund", "echo", "payload", "", null] {
		held(call(tool, {"amount": 5000})) == set()
		held(call(tool, {"currency": "USD"})) == set()
		denied(call(tool, {"amount": "much"})) == set()
		allowed(call(tool, {"amount": 5})) == set()
	}
}

test_missing_settings_hold_every_payment if {
	every broken in [{}, "x", {"approvals": {}}, {"approvals": {"payments": {"limit": "100", "tools": "refund", "currency": 7}}}, {"approvals": {"payments": {"limit": null}}}, {"approvals": {"payments": {"limit": -5}}}] {
		count(approvals.require_approval) == 1 with input as call("refund", {"amount": 1}) with data.settings as broken
		count(approvals.allow) == 0 with input as call("refund", {"amount": 1}) with data.settings as broken
	}
}

test_the_diagnostic if {
	found := approvals.require_approval with input as pay({"amount": 250}) with data.settings as settings
	found == {{
		"rule": "payment_over_limit",
		"message": "a payment of 250 is over the limit of 100, so a person must approve it first; do not split it",
		"data": {"amount": 250, "limit": 100, "currency": "EUR"},
	}}
}

test_the_settings_of_the_set if {
	count(approvals.require_approval) == 1 with input as pay({"amount": 5000})
	count(approvals.require_approval) == 0 with input as pay({"amount": 5})
}
