/*
description: >
  Where each order stands now. Now is the greatest time of any order status,
  so that a replay of old data shows the orders as they stood then.
materialized: view
unique_key: [order_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null, unique]}
  - {name: state, type: string, description: "closed: canceled or unavailable. delivered: with the customer. late: open after the day of the estimate. at_risk: the carrier got it after the shipping limit, or has not got it and the limit is past. on_time: else.", data_tests: [not_null, {accepted_values: [closed, delivered, late, at_risk, on_time]}]}
  - {name: stage, type: string, description: "Last stage reached, in the order purchase, approve, delivered_carrier, delivered_customer; null where none is known.", data_tests: [{accepted_values: [purchase, approve, delivered_carrier, delivered_customer]}]}
  - {name: days_in_stage, type: int, description: "Calendar days since it reached its stage, while open; else null."}
  - {name: days_late, type: int, description: "Calendar days after the estimate, of the delivery or, while open, of now; at least 0, null where closed or without an estimate."}
  - {name: purchase, type: timestamp, description: "When it was bought, UTC."}
  - {name: approve, type: timestamp, description: "When its payment was approved, UTC."}
  - {name: shipping_limit, type: timestamp, description: "Until when its last item must be with the carrier, UTC."}
  - {name: delivered_carrier, type: timestamp, description: "When the carrier got it, UTC."}
  - {name: estimated_delivery, type: timestamp, description: "Delivery date promised to the customer, UTC."}
  - {name: delivered_customer, type: timestamp, description: "When the customer got it, UTC."}
  - {name: canceled, type: timestamp, description: "When it was closed as canceled, UTC."}
  - {name: unavailable, type: timestamp, description: "When it was closed as unavailable, UTC."}
  - {name: purchase_to_approval_days, type: int, description: "Days from purchase to approval."}
  - {name: approval_to_carrier_days, type: int, description: "Days from approval to the carrier; negative where the carrier had it first."}
  - {name: carrier_to_customer_days, type: int, description: "Days from the carrier to the customer."}
  - {name: carrier_delivery_delay_days, type: int, description: "Days by which the carrier got it after the shipping limit; negative: before."}
  - {name: customer_delivery_delay_days, type: int, description: "Days by which the customer got it after the estimate; positive: late, negative: early."}
*/
WITH placed AS (
  SELECT l.order_id, l.purchase, l.approve, l.shipping_limit, l.delivered_carrier, l.estimated_delivery, l.delivered_customer, l.canceled, l.unavailable,
    l.purchase_to_approval_days, l.approval_to_carrier_days, l.carrier_to_customer_days, l.carrier_delivery_delay_days, l.customer_delivery_delay_days,
    (SELECT max(o.latest_timestamp) AS latest_timestamp FROM silver.order_latest_status o) AS seen_until,
    CASE
      WHEN l.delivered_customer IS NOT NULL THEN 'delivered_customer'
      WHEN l.delivered_carrier IS NOT NULL THEN 'delivered_carrier'
      WHEN l.approve IS NOT NULL THEN 'approve'
      WHEN l.purchase IS NOT NULL THEN 'purchase'
    END AS stage,
    coalesce(l.delivered_customer, l.delivered_carrier, l.approve, l.purchase) AS stage_since
  FROM gold.fact_order_lead_days l
),
judged AS (
  SELECT p.order_id, p.purchase, p.approve, p.shipping_limit, p.delivered_carrier, p.estimated_delivery, p.delivered_customer, p.canceled, p.unavailable,
    p.purchase_to_approval_days, p.approval_to_carrier_days, p.carrier_to_customer_days, p.carrier_delivery_delay_days, p.customer_delivery_delay_days,
    p.stage,
    CASE
      WHEN p.canceled IS NOT NULL OR p.unavailable IS NOT NULL THEN 'closed'
      WHEN p.delivered_customer IS NOT NULL THEN 'delivered'
      WHEN cast(p.seen_until AS date) > cast(p.estimated_delivery AS date) THEN 'late'
      WHEN p.delivered_carrier > p.shipping_limit THEN 'at_risk'
      WHEN p.delivered_carrier IS NULL AND p.seen_until > p.shipping_limit THEN 'at_risk'
      ELSE 'on_time'
    END AS state,
    datediff(cast(p.seen_until AS date), cast(p.stage_since AS date)) AS days_since_stage,
    datediff(cast(coalesce(p.delivered_customer, p.seen_until) AS date), cast(p.estimated_delivery AS date)) AS days_after_estimate
  FROM placed p
)
SELECT j.order_id, j.state, j.stage,
  CASE WHEN j.state NOT IN ('closed', 'delivered') THEN j.days_since_stage END AS days_in_stage,
  CASE
    WHEN j.state = 'closed' THEN NULL
    WHEN j.days_after_estimate < 0 THEN 0
    ELSE j.days_after_estimate
  END AS days_late,
  j.purchase, j.approve, j.shipping_limit, j.delivered_carrier, j.estimated_delivery, j.delivered_customer, j.canceled, j.unavailable,
  j.purchase_to_approval_days, j.approval_to_carrier_days, j.carrier_to_customer_days, j.carrier_delivery_delay_days, j.customer_delivery_delay_days
FROM judged j
