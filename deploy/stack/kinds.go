package stack

// Groups of parts. What is not core needs it, and all but monitoring need spark.
const (
	Core       = "core"
	Spark      = "spark"
	Lockstep   = "lockstep" // the product itself: its stream and its serving
	Monitoring = "monitoring"
	Airflow    = "airflow"
	Superset   = "superset"
)

// Groups are all groups in the order in which they start.
var Groups = []string{Core, Spark, Lockstep, Monitoring, Airflow, Superset}
