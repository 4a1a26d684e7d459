package olist_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"lockstep/project"
	"lockstep/replay"
)

// Invented raw files with the shapes that the public ones are known for.
var rawFiles = map[string]string{
	"olist_orders_dataset.csv": `order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at,order_delivered_carrier_date,order_delivered_customer_date,order_estimated_delivery_date
full,c1,delivered,2018-01-01 10:00:00,2018-01-01 10:30:00,2018-01-02 08:00:00,2018-01-05 09:00:00,2018-01-20 00:00:00
early,c2,delivered,2018-01-02 10:00:00,,2018-01-01 08:00:00,2018-01-06 09:00:00,2018-01-20 00:00:00
closed,c3,canceled,2018-01-03 10:00:00,2018-01-03 11:00:00,,,2018-01-21 00:00:00
empty,c4,unavailable,2018-01-04 10:00:00,,,,2018-01-22 00:00:00
unpaid,c5,shipped,2018-01-05 10:00:00,2018-01-05 10:10:00,2018-01-06 10:10:00,,2018-01-23 00:00:00
`,
	"olist_order_items_dataset.csv": `order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value
full,2,p2,s2,2018-01-09 10:00:00,20.00,2.00
full,1,p1,s1,2018-01-08 10:00:00,10.00,1.00
full,3,p1,s1,2018-01-08 10:00:00,10.00,1.00
full,3,p1,s1,2018-01-08 10:00:00,10.00,1.00
early,1,p3,s1,2018-01-08 10:00:00,5.00,1.00
closed,1,p9,s9,2018-01-08 10:00:00,5.00,1.00
unpaid,1,p1,s3,2018-01-08 10:00:00,5.00,1.00
`,
	"olist_order_payments_dataset.csv": `order_id,payment_sequential,payment_type,payment_installments,payment_value
full,1,voucher,1,3.00
full,4,credit_card,2,30.00
full,2,voucher,1,4.00
early,1,boleto,1,6.00
closed,1,boleto,1,6.00
empty,1,boleto,1,6.00
`,
	"olist_order_reviews_dataset.csv": `review_id,order_id,review_score,review_comment_title,review_comment_message,review_creation_date,review_answer_timestamp
r1,full,5,,"Bom, ""muito"" bom
mesmo",2018-01-06 00:00:00,2018-01-07 10:00:00
r1,early,1,Ruim,,2018-01-07 00:00:00,
r2,empty,1,,,,
`,
	"olist_products_dataset.csv": `product_id,product_category_name,product_weight_g,product_length_cm,product_height_cm,product_width_cm
p1,beleza_saude,100,10,20,30
p2,pc_gamer,,,,
p3,,100,10,20,30
p4,beleza_saude,100,10,20,30
`,
	"olist_customers_dataset.csv": `customer_id,customer_zip_code_prefix
c1,1001
c1,1001
c2,99999
c3,01002
c4,01001
c5,01003
`,
	"olist_sellers_dataset.csv": `seller_id,seller_zip_code_prefix
s1,01002
s2,01002
s3,01003
`,
	"olist_geolocation_dataset.csv": `geolocation_zip_code_prefix,geolocation_lat,geolocation_lng,geolocation_city,geolocation_state
01001,-23.10000000,-46.10000000,sao paulo,SP
1001,-23.20000000,-46.20000000,são paulo,SP
01001,-23.20000000,-46.20000000,são paulo,SP
01001,40.00000000,-8.00000000,porto,PT
01002,41.00000000,-8.00000000,porto,PT
01002,41.00000100,-8.00000000,lisboa,PT
01003,5.28,-28.83,b,B
01003,-33.76,-74.00,a,B
`,
	"product_category_name_translation.csv": "\ufeffproduct_category_name,product_category_name_english\nbeleza_saude,health_beauty\n",
}

// got is an event as the tests look at it.
type got struct {
	topic, key string
	at         time.Time
	fields     map[string]string
}

// replayed gives the events of raw files, in order.
func replayed(t *testing.T, files map[string]string) []got {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	events := open(t, replay.Config{Data: dir})
	var all []got
	var ev replay.Event
	for {
		more, err := events.Next(&ev)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return all
		}
		g := got{topic: ev.Source.Topic, key: ev.Key, fields: map[string]string{}}
		if ev.HasTime() {
			g.at = time.UnixMicro(ev.Time).UTC()
		}
		for i, f := range ev.Source.Fields {
			if !ev.Batch.Column(i).IsNull(ev.Row) {
				g.fields[f.Name] = ev.Batch.Column(i).ValueStr(ev.Row)
			}
			if ts, ok := ev.Batch.Column(i).(*array.Timestamp); ok && ts.IsValid(ev.Row) {
				g.fields[f.Name] = time.UnixMicro(int64(ts.Value(ev.Row))).UTC().Format("2006-01-02 15:04:05.000")
			}
		}
		all = append(all, g)
	}
}

// lines writes the events that keep lets through, without their times.
func lines(all []got, keep func(got) bool, columns ...string) string {
	var b strings.Builder
	for _, g := range all {
		if !keep(g) {
			continue
		}
		fmt.Fprintf(&b, "%s %s", g.topic, g.key)
		for _, c := range columns {
			v, ok := g.fields[c]
			if !ok {
				v = "null"
			}
			fmt.Fprintf(&b, " %s", v)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func topic(name string) func(got) bool { return func(g got) bool { return g.topic == name } }

func TestChainFollowsPurchase(t *testing.T) {
	all := replayed(t, rawFiles)
	day := func(n int) func(got) bool {
		from := time.Date(2018, 1, n, 10, 0, 0, 0, time.UTC)
		return func(g got) bool {
			return g.at.After(from) && g.at.Before(from.Add(5*time.Second)) && g.topic != "payment"
		}
	}
	tests := []struct {
		order string
		day   int
		want  string
	}{
		{"full", 1, "order_status full\norder_item full\norder_item full\norder_item full\nproduct p1\nproduct p2\nseller s1\nseller s2\ngeolocation 01002\ncustomer c1\ngeolocation 01001\nestimated_delivery_date full\n"},
		{"a customer's code without a place", 2, "order_status early\norder_item early\nproduct p3\nseller s1\ngeolocation 01002\ncustomer c2\nestimated_delivery_date early\n"},
		{"a product and a seller that no file has", 3, "order_status closed\norder_item closed\ncustomer c3\ngeolocation 01002\nestimated_delivery_date closed\n"},
		{"no items; closes at once", 4, "order_status empty\norder_status empty\ncustomer c4\ngeolocation 01001\nestimated_delivery_date empty\n"},
		{"no payment, so no customer", 5, "order_status unpaid\norder_item unpaid\nproduct p1\nseller s3\ngeolocation 01003\nestimated_delivery_date unpaid\n"},
	}
	for _, test := range tests {
		chain := day(test.day)
		if g := lines(all, chain); sortStatus(g) != sortStatus(test.want) {
			t.Errorf("%s:\n%swant\n%s", test.order, g, test.want)
		}
		last := time.Date(2018, 1, test.day, 10, 0, 0, 0, time.UTC)
		for _, g := range all {
			if !chain(g) || g.fields["status"] == "unavailable" {
				continue
			}
			// A product or seller that no file has leaves its place in the chain
			// empty, so two delays may lie between records.
			if gap := g.at.Sub(last); gap < 50*time.Millisecond || gap >= 300*time.Millisecond {
				t.Errorf("%s: %s %s comes %v after the one before", test.order, g.topic, g.key, gap)
			}
			last = g.at
		}
	}
}

// sortStatus puts the closing status, whose delay is its own, before the chain.
func sortStatus(s string) string {
	all := strings.SplitAfter(s, "\n")
	slices.SortStableFunc(all, func(a, b string) int {
		return boolInt(strings.HasPrefix(b, "order_status")) - boolInt(strings.HasPrefix(a, "order_status"))
	})
	return strings.Join(all, "")
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestStatusEvents(t *testing.T) {
	all := replayed(t, rawFiles)
	want := `order_status full purchase 2018-01-01 10:00:00.000
order_status full approved 2018-01-01 10:30:00.000
order_status full delivered_carrier 2018-01-02 08:00:00.000
order_status full delivered_customer 2018-01-05 09:00:00.000
`
	if g := lines(all, func(g got) bool { return g.topic == "order_status" && g.key == "full" }, "status", "timestamp"); g != want {
		t.Errorf("got\n%swant\n%s", g, want)
	}
	want = `order_status closed purchase 2018-01-03 10:00:00.000
order_status closed approved 2018-01-03 11:00:00.000
order_status closed canceled 2018-01-03 11:00:00.000
`
	if g := lines(all, func(g got) bool { return g.topic == "order_status" && g.key == "closed" }, "status", "timestamp"); g != want {
		t.Errorf("got\n%swant\n%s", g, want)
	}
	var followed time.Time
	for _, g := range all {
		if g.topic != "order_status" {
			continue
		}
		base, _ := time.Parse(time.DateTime, g.fields["timestamp"])
		if g.fields["status"] == "canceled" || g.fields["status"] == "unavailable" {
			base = followed
		}
		if delay := g.at.Sub(base); delay < 50*time.Millisecond || delay >= 100*time.Millisecond {
			t.Errorf("%s %s is ingested %v later", g.key, g.fields["status"], delay)
		}
		followed = g.at
	}
}

func TestPaymentTimes(t *testing.T) {
	purchase := time.Date(2018, 1, 1, 10, 0, 0, 0, time.UTC)
	next := purchase
	all := replayed(t, rawFiles)
	slices.Reverse(all)
	for i, sequential := 0, []string{"4", "2", "1"}; ; i++ {
		at := slices.IndexFunc(all, func(g got) bool { return g.topic == "payment" && g.key == "full" })
		if at < 0 {
			if i != 3 {
				t.Errorf("%d payments, want 3", i)
			}
			return
		}
		g := all[at]
		all = all[at+1:]
		when, err := time.Parse("2006-01-02 15:04:05.000", g.fields["timestamp"])
		if err != nil {
			t.Fatal(err)
		}
		if g.fields["payment_sequential"] != sequential[i] || g.fields["customer_id"] != "c1" {
			t.Errorf("payment %d is %v", i, g.fields)
		}
		gap := next.Sub(when)
		if i == 0 && gap != 0 || i > 0 && (gap < 20*time.Second || gap > 40*time.Second || gap%time.Second != 0) {
			t.Errorf("payment %s is made %v before the next", sequential[i], gap)
		}
		next = when
	}
}

func TestDimensions(t *testing.T) {
	all := replayed(t, rawFiles)
	first := map[string]bool{}
	once := func(name string) func(got) bool {
		return func(g got) bool {
			id := g.topic + " " + g.key
			if g.topic != name || first[id] {
				return false
			}
			first[id] = true
			return true
		}
	}
	tests := []struct{ got, want string }{
		{lines(all, once("product"), "category", "weight_g"), "product p1 health_beauty 100\nproduct p2 gaming_pc null\nproduct p3 null 100\n"},
		{lines(all, once("customer"), "zip_code"), "customer c1 01001\ncustomer c2 99999\ncustomer c3 01002\ncustomer c4 01001\n"},
		// the mean counts a repeated point twice and leaves out the one abroad;
		// a code that is abroad altogether keeps its mean; bounds are inside.
		{lines(all, once("geolocation"), "lat", "lng", "city", "state"), "geolocation 01002 41.000001 -8 lisboa PT\ngeolocation 01001 -23.166667 -46.166667 são paulo SP\ngeolocation 01003 -14.24 -51.415 a B\n"},
		{lines(all, topic("review"), "order_id", "review_score", "review_comment_message"), "review r2 empty 1 null\nreview r1 full 5 Bom, \"muito\" bom\nmesmo\nreview r1 early 1 null\n"},
		{lines(all, func(g got) bool { return g.topic == "order_item" && g.key == "full" }, "order_item_id", "price", "seller_id"), "order_item full 1 10 s1\norder_item full 2 20 s2\norder_item full 3 10 s1\n"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got\n%swant\n%s", test.got, test.want)
		}
	}
}

// TestGeneratedShape compares the synthetic files at a small scale with what
// the real ones look like.
func TestGeneratedShape(t *testing.T) {
	events := open(t, replay.Config{Scale: 0.05, Seed: 3})
	counts, statuses, scores := map[string]float64{}, map[string]float64{}, map[string]float64{}
	items := map[string]int{}
	estimate, delivered := map[string]int64{}, map[string]int64{}
	products := map[string]float64{}
	var ev replay.Event
	last := int64(math.MinInt64)
	for {
		more, err := events.Next(&ev)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if ev.Time < last {
			t.Fatal("events go back in time")
		}
		last = ev.Time
		counts[ev.Source.Topic]++
		switch ev.Source.Topic {
		case "order_status":
			status := text(&ev, "status")
			statuses[status]++
			if status == "delivered_customer" {
				delivered[ev.Key] = micros(&ev, "timestamp")
			}
		case "estimated_delivery_date":
			estimate[ev.Key] = micros(&ev, "estimated_delivery_date")
		case "order_item":
			items[ev.Key]++
			products[text(&ev, "product_id")]++
		case "review":
			scores[fmt.Sprint(ev.Batch.Column(2).(*array.Int32).Value(ev.Row))]++
		}
	}
	orders := statuses["purchase"]
	late, several, most := 0.0, 0.0, 0.0
	const day = 86400e6
	for id, at := range delivered {
		if at/day > estimate[id]/day {
			late++
		}
	}
	for _, n := range items {
		if n > 1 {
			several++
		}
	}
	for _, n := range products {
		most = max(most, n)
	}
	shares := []struct {
		name           string
		value, low, up float64
	}{
		{"orders", orders, 4972, 4972},
		{"events per order", float64(events.Total()) / orders, 12.5, 13.7},
		{"late deliveries", late / float64(len(delivered)), 0.055, 0.10},
		{"canceled", statuses["canceled"] / orders, 0.003, 0.010},
		{"several items", several / float64(len(items)), 0.02, 0.04},
		{"orders without items", 1 - float64(len(items))/orders, 0.003, 0.015},
		{"delivered", float64(len(delivered)) / orders, 0.95, 0.985},
		{"payments per order", counts["payment"] / orders, 1.02, 1.09},
		{"best scores", scores["5"] / counts["review"], 0.5, 0.65},
		{"worst scores", scores["1"] / counts["review"], 0.07, 0.14},
		{"items of the first product over the mean", most / (counts["order_item"] / float64(len(products))), 20, 200},
	}
	for _, s := range shares {
		if s.value < s.low || s.value > s.up {
			t.Errorf("%s: %.4f, want %g to %g", s.name, s.value, s.low, s.up)
		}
	}
}

func micros(ev *replay.Event, column string) int64 {
	return int64(ev.Batch.Column(ev.Batch.Schema().FieldIndices(column)[0]).(*array.Timestamp).Value(ev.Row))
}

// TestRawFilesAreChecked replaces one field and wants it named.
func TestRawFilesAreChecked(t *testing.T) {
	dir := t.TempDir()
	for name, content := range rawFiles {
		content = strings.Replace(content, "p2,pc_gamer,,", "p2,pc_gamer,heavy,", 1)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := project.Load(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	err = replay.Check(context.Background(), dir, p.RawFiles)
	want := `olist_products_dataset.csv:3: column product_weight_g: "heavy" is not a number; correct the value`
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}
