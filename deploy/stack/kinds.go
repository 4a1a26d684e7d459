package stack

// Groups of parts. Every group needs the ones before it, but monitoring, airflow
// and superset need only core and spark.
const (
	Core       = "core"
	Spark      = "spark"
	Monitoring = "monitoring"
	Airflow    = "airflow"
	Superset   = "superset"
)

// Groups are all groups in the order in which they start.
var Groups = []string{Core, Spark, Monitoring, Airflow, Superset}
