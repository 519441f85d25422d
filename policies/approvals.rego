# METADATA
# title: Payments need a person
# description: >-
#   An example of approval: a tool that moves money is held when the call's total is over the limit, in another currency, or
#   cannot be read. A denied amount is one that cannot be meant: negative, or not a number.
# custom:
#   id: starter.approvals
package docket.approvals

import data.docket.lib.arguments

# Without a usable limit every payment is held.
default limit := 0

limit := data.settings.approvals.payments.limit if {
	is_number(data.settings.approvals.payments.limit)
	data.settings.approvals.payments.limit >= 0
}

default currency := ""

currency := upper(data.settings.approvals.payments.currency) if is_string(data.settings.approvals.payments.currency)

payment_tools := arguments.strings(data.settings.approvals.payments.tools)

payment if arguments.tool in payment_tools

# Renaming the tool is no way round: its words tell. Looking at payments is not paying.
payment if {
	some word in arguments.words
	word in {
		"charge", "checkout", "donate", "pay", "payment", "payments", "payout", "payouts", "purchase", "refund", "tip",
		"transfer", "withdraw", "withdrawal",
	}
	count({"describe", "estimate", "find", "get", "list", "read", "retrieve", "search", "show"} & arguments.words) == 0
}

amounts contains {"entry": entry, "value": value} if {
	some entry in arguments.entries
	is_amount(entry.key)
	value := number(entry.value)
}

# An object such as `{"amount": {"value": 5, "currency": "EUR"}}` is looked into; everything else must be a number.
unreadable contains entry if {
	some entry in arguments.entries
	is_amount(entry.key)
	not is_array(entry.value)
	not is_object(entry.value)
	not number(entry.value)
}

unreadable contains amount.entry if {
	some amount in amounts
	amount.value < 0
}

is_amount(key) if key in {"amounts", "cents", "price", "sum", "total", "value"}

is_amount(key) if regex.match(`amount(incents|cents|minor|minorunits)?$`, key)

# A number, or one written as text without separators or exponent.
number(value) := value if is_number(value)

number(value) := to_number(value) if {
	is_string(value)
	regex.match(`^-?[0-9]{1,15}(\.[0-9]{1,6})?$`, value)
}

# Many small payments in one call are one large one.
total := sum([amount.value | some amount in amounts])

deny contains {
	"rule": "payment_amount",
	"message": sprintf("argument `%s` must be an amount as a number that is not negative, such as 12.50", [entry.name]),
	"data": {"argument": arguments.pointer(entry)},
} if {
	payment
	some entry in unreadable
}

require_approval contains {
	"rule": "payment_over_limit",
	"message": sprintf("a payment of %v is over the limit of %v, so a person must approve it first; do not split it", [total, limit]),
	"data": {"amount": total, "limit": limit, "currency": currency},
} if {
	payment
	total > limit
}

require_approval contains {
	"rule": "payment_without_amount",
	"message": sprintf("`%s` may move money, and no argument says how much, so a person must approve it first; give the sum as `amount`", [arguments.tool]),
	"data": {"tool": arguments.tool},
} if {
	payment
	count(amounts) == 0
}

require_approval contains {
	"rule": "payment_currency",
	"message": sprintf("the limit is in `%s`, and this payment is not, so a person must approve it first", [currency]),
	"data": {"argument": arguments.pointer(entry), "currency": currency},
} if {
	payment
	some entry in arguments.entries
	regex.match(`currency(code)?$`, entry.key)
	not in_currency(entry.value)
}

in_currency(value) if {
	is_string(value)
	upper(value) == currency
}

allow contains {"rule": "payment", "message": "a payment by a tool named in the settings; over the limit, once a person approved it"} if {
	arguments.tool in payment_tools
	count(amounts) > 0
	count(unreadable) == 0
}
